// One view (rows, cols) into a layer of a texture array and back: bits, whatever they mean. A thread is one texel.

template <class Bits>
static __device__ void write_layer(const Bits *view, unsigned long long surface, int layer, int rows, int cols) {
    const int column = blockIdx.x * blockDim.x + threadIdx.x, row = blockIdx.y;
    if (column < cols && row < rows)
        surf2DLayeredwrite(view[(size_t)row * cols + column], surface, column * (int)sizeof(Bits), row, layer);
}

template <class Bits>
static __device__ void read_layer(Bits *view, unsigned long long surface, int layer, int rows, int cols) {
    const int column = blockIdx.x * blockDim.x + threadIdx.x, row = blockIdx.y;
    if (column < cols && row < rows)
        view[(size_t)row * cols + column] =
            surf2DLayeredread<Bits>(surface, column * (int)sizeof(Bits), row, layer);
}

#define KERNELS(bits, Bits)                                                                                 \
    extern "C" __global__ void write_##bits(                                                                \
        const Bits *view, unsigned long long surface, int layer, int rows, int cols                         \
    ) {                                                                                                     \
        write_layer(view, surface, layer, rows, cols);                                                      \
    }                                                                                                       \
    extern "C" __global__ void read_##bits(                                                                 \
        Bits *view, unsigned long long surface, int layer, int rows, int cols                               \
    ) {                                                                                                     \
        read_layer(view, surface, layer, rows, cols);                                                       \
    }

KERNELS(16, unsigned short)
KERNELS(32, unsigned int)
