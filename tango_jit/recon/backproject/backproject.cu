// Filtered views onto rectangles (slices and patches) on the device: one launch, whatever the number of rectangles.
//
// A block is a tile of TILE x TILE pixels of one rectangle, a thread is one pixel. All threads of a block go over the
// same views in the same order, CHUNK of them at a time: first the block works out, in double precision, where each
// view sees the tile; then every pixel samples these views in single precision. Positions on the detector are counted
// from the whole pixel nearest to the middle of the tile, so that single precision leaves an error of some 1e-6
// pixels on a detector of any size.
//
// No header is included and nothing but CUDA's own names is used: the same text compiles with NVRTC, nvcc and, over a
// shim of the tests, a C++ compiler. The capital names come with the command line, see cuda_device.py.

struct View {             // as VIEW in cuda.py
    double matrix[3][4];  // mm to (w * column, w * row, w)
    float weights[PLANES];
    int layer, slot;
};

// Views `first` to `end` lie in one texture array. All threads read the same handle, and at the same time: else newer
// chips would take the threads one by one.
struct Run {
    unsigned long long texture;
    int first, end;
};

struct Detector {
    const float *units;  // by slot: what texels are counted in; null: 1
    int rows, cols;
};

struct Rectangles {               // all of one shape
    const double (*poses)[3][3];  // mm: first pixel centre, step to the next column, step to the next row
    int rows, cols;
    int across, tiles;  // tiles along a row, tiles of one rectangle
};

// A view as a tile sees it: (w * column, w * row, w), each at the first pixel of the tile, per column of the slice, per
// row; column and row less those of the reference pixel.
struct alignas(16) Seen {
    float column[3], from_column;  // the middle of the reference pixel, as textures count: half a pixel more
    float row[3], from_row;
    float depth[3];
    int layer;
    float weights[PLANES];
};

// Texels of 32 bits, interpolated here: as exact as single precision.
struct Exact {
    static constexpr int at_once = 2;  // views whose samples are on their way together; with more, registers spill

    static __device__ float sample(unsigned long long texture, float x, float y, int layer, float u, float v) {
        const float left = floorf(u), low = floorf(v), a = u - left, b = v - low;
        x += left, y += low;  // no rounding: halves of whole numbers
        const float p00 = tex2DLayered<float>(texture, x, y, layer);
        const float p01 = tex2DLayered<float>(texture, x + 1, y, layer);
        const float p10 = tex2DLayered<float>(texture, x, y + 1, layer);
        const float p11 = tex2DLayered<float>(texture, x + 1, y + 1, layer);
        const float lower = p00 + a * (p01 - p00), upper = p10 + a * (p11 - p10);
        return lower + b * (upper - lower);
    }
};

// Texels of 16 bits, interpolated by the texture unit: positions to 1/256 of a pixel.
struct Half {
    static constexpr int at_once = 4;

    static __device__ float sample(unsigned long long texture, float x, float y, int layer, float u, float v) {
        return tex2DLayered<float>(texture, x + u, y + v, layer);
    }
};

static __device__ double dot(const double *m, const double *x) { return m[0] * x[0] + m[1] * x[1] + m[2] * x[2]; }

// One row of a matrix over a tile: its value at the first pixel, per column, per row.
struct Affine {
    double start, along, down;

    __device__ Affine(const double *m, const double (*pose)[3], int i0, int j0)
        : along(dot(m, pose[1])), down(dot(m, pose[2])) {
        start = m[3] + dot(m, pose[0]) + j0 * along + i0 * down;
    }

    __device__ float middle() const { return (float)(start + 0.5 * (TILE - 1) * (along + down)); }

    // Less `pixel` times the depth, in single precision.
    __device__ void from(float pixel, const Affine &depth, float *to) const {
        to[0] = (float)(start - pixel * depth.start);
        to[1] = (float)(along - pixel * depth.along);
        to[2] = (float)(down - pixel * depth.down);
    }
};

// The detector pixel, of `size`, nearest to the middle of a tile; any will do for what is not seen.
static __device__ float nearest(const Affine &line, const Affine &depth, int size) {
    const float w = depth.middle();
    return w > MIN_DEPTH ? fminf(fmaxf(rintf(line.middle() / w), 0.0f), size - 1.0f) : 0.0f;
}

static __device__ void place(
    const View &view, const double (*pose)[3], int i0, int j0, const Detector &detector, Seen &seen
) {
    const Affine depth(view.matrix[2], pose, i0, j0);
    depth.from(0, depth, seen.depth);

    const Affine column(view.matrix[0], pose, i0, j0);
    const float at_column = nearest(column, depth, detector.cols);
    column.from(at_column, depth, seen.column);
    seen.from_column = at_column + 0.5f;

    if (detector.rows == 1) {  // a fan: the row is ignored
        seen.row[0] = seen.row[1] = seen.row[2] = 0, seen.from_row = 0.5f;
    } else {
        const Affine row(view.matrix[1], pose, i0, j0);
        const float at_row = nearest(row, depth, detector.rows);
        row.from(at_row, depth, seen.row);
        seen.from_row = at_row + 0.5f;
    }

    const float unit = detector.units ? detector.units[view.slot] : 1.0f;
    for (int plane = 0; plane < PLANES; ++plane) seen.weights[plane] = unit * view.weights[plane];
    seen.layer = view.layer;
}

// out: (rectangles, planes, rows, cols), of which the `some` <= PLANES from `plane` on are written.
template <class Texels>
static __device__ void backproject(
    const View *views, const Run *runs, int n, const Detector &detector, const Rectangles &to, int plane, int some,
    int planes, float *out
) {
    __shared__ Seen chunk[CHUNK];
    // A warp is 8 x 4 pixels: compact on the detector, whatever the orientation.
    const int thread = threadIdx.x, lane = thread % 32, warp = thread / 32;
    const int x = warp % (TILE / 8) * 8 + lane % 8, y = warp / (TILE / 8) * 4 + lane / 8;
    const int rectangle = blockIdx.x / to.tiles, tile = blockIdx.x % to.tiles;
    const int i0 = tile / to.across * TILE, j0 = tile % to.across * TILE;
    const bool mine = i0 + y < to.rows && j0 + x < to.cols;
    const bool wanted = __any_sync(~0u, mine);  // a warp stays together: see Run
    const float right = x, down = y;

    float sums[PLANES] = {};
    for (int run = 0; run < n; ++run) {
        const unsigned long long texture = runs[run].texture;
        for (int first = runs[run].first; first < runs[run].end; first += CHUNK) {
            const int count = min(CHUNK, runs[run].end - first);
            __syncthreads();  // the chunk before this one is done with
            for (int k = thread; k < count; k += TILE * TILE)
                place(views[first + k], to.poses[rectangle], i0, j0, detector, chunk[k]);
            __syncthreads();
            if (!wanted) continue;
#pragma unroll Texels::at_once
            for (int k = 0; k < count; ++k) {
                const Seen &seen = chunk[k];
                const float w = seen.depth[0] + right * seen.depth[1] + down * seen.depth[2];
                const float near = __fdividef(1.0f, fmaxf(w, MIN_DEPTH));
                const float u = (seen.column[0] + right * seen.column[1] + down * seen.column[2]) * near;
                const float v = (seen.row[0] + right * seen.row[1] + down * seen.row[2]) * near;
                const bool inside = (w > MIN_DEPTH) & (u >= -seen.from_column) & (v >= -seen.from_row) &
                                    (u <= detector.cols - seen.from_column) & (v <= detector.rows - seen.from_row);
                // Sampled in any case, without a branch: textures repeat their edge.
                const float sample = Texels::sample(texture, seen.from_column, seen.from_row, seen.layer, u, v);
                const float value = inside ? near * near * sample : 0.0f;
                for (int p = 0; p < PLANES; ++p) sums[p] += seen.weights[p] * value;
            }
        }
    }
    if (!mine) return;
    const size_t size = (size_t)to.rows * to.cols;
    out += ((size_t)rectangle * planes + plane) * size + (size_t)(i0 + y) * to.cols + j0 + x;
    for (int p = 0; p < PLANES; ++p)
        if (p < some) out[p * size] = sums[p];
}

#define KERNEL(name, Texels)                                                                                           \
    extern "C" __global__ void __launch_bounds__(TILE *TILE, 3) name(                                                    \
        const View *views, const Run *runs, int n, const float *units, int detector_rows, int detector_cols,           \
        const double (*poses)[3][3], int rows, int cols, int plane, int some, int planes, float *out                   \
    ) {                                                                                                                \
        const int across = (cols + TILE - 1) / TILE, tiles = (rows + TILE - 1) / TILE * across;                        \
        const Detector detector = {units, detector_rows, detector_cols};                                               \
        backproject<Texels>(views, runs, n, detector, {poses, rows, cols, across, tiles}, plane, some, planes, out);   \
    }

KERNEL(backproject_exact, Exact)
KERNEL(backproject_half, Half)
