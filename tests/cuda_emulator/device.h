// A CUDA device in a C++ compiler: what the kernels of this project use, and nothing else.
//
// Every thread of a block is a fiber with a stack of its own. A fiber runs until it meets the others (__syncthreads,
// __any_sync) or ends; in which order the fibers of a block take their turns is given from outside. Shared memory holds
// NaN when a block begins. So a missing barrier, or a use of what nobody wrote, changes the numbers with the order.
//
// Textures and surfaces are those of the CUDA programming guide: coordinates in pixels, edges repeated, linear filtering
// with 8 bits of fraction. A surface access outside of it fails.

#pragma once

#include <setjmp.h>
#include <ucontext.h>

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <functional>
#include <memory>
#include <random>
#include <stdexcept>
#include <string>
#include <vector>

#define __device__
#define __global__
#define __launch_bounds__(...)
#define __shared__ static __attribute__((section("shared_memory")))

extern char __start_shared_memory, __stop_shared_memory;
static char no_kernel_shares __attribute__((section("shared_memory"), used));

struct Dim {
    int x, y, z;
};

static Dim threadIdx, blockIdx, blockDim, gridDim;

using std::max;
using std::min;

static float __fdividef(float a, float b) { return a / b; }

// ---- threads

enum Meeting { NONE, BLOCK, WARP };

struct Fiber {
    std::vector<char> stack = std::vector<char>(1 << 16);
    ucontext_t first;
    jmp_buf place;
    Dim index;
    Meeting waits = NONE;
    bool begun = false, ended = false, vote = false;
};

static std::vector<std::unique_ptr<Fiber>> fibers;
static Fiber *running;
static jmp_buf scheduler;
static const std::function<void()> *body;  // of a thread

// Contexts begin a fiber; after that jumps are enough, and much faster.
static void live() {
    for (;;) {
        (*body)();
        running->ended = true;
        if (!_setjmp(running->place)) _longjmp(scheduler, 1);
    }
}

static void resume(Fiber &f) {
    running = &f, threadIdx = f.index;
    if (_setjmp(scheduler)) return;
    if (f.begun) _longjmp(f.place, 1);
    f.begun = true;
    getcontext(&f.first);
    f.first.uc_stack.ss_sp = f.stack.data(), f.first.uc_stack.ss_size = f.stack.size();
    makecontext(&f.first, live, 0);
    setcontext(&f.first);
}

static void meet(Meeting where) {
    running->waits = where;
    if (!_setjmp(running->place)) _longjmp(scheduler, 1);
}

static void __syncthreads() { meet(BLOCK); }

static bool __any_sync(unsigned, bool vote) {
    Fiber *me = running;
    me->vote = vote;
    meet(WARP);
    return me->vote;
}

// Let those go on that have all met: the lanes of a warp, or else all threads of the block that have not ended.
static bool release() {
    bool released = false;
    for (size_t first = 0; first < fibers.size(); first += 32) {
        auto from = fibers.begin() + first, to = fibers.begin() + min(first + 32, fibers.size());
        if (!std::all_of(from, to, [](auto &f) { return f->waits == WARP; })) continue;
        const bool any = std::any_of(from, to, [](auto &f) { return f->vote; });
        for (auto f = from; f != to; ++f) (*f)->vote = any, (*f)->waits = NONE;
        released = true;
    }
    if (!released && std::all_of(fibers.begin(), fibers.end(), [](auto &f) { return f->ended || f->waits == BLOCK; }))
        for (auto &f : fibers)
            if (!f->ended) f->waits = NONE, released = true;
    return released;
}

static void run_block(std::minstd_rand &random, bool shuffled) {
    for (char *byte = &__start_shared_memory; byte != &__stop_shared_memory; ++byte) *byte = char(0xff);  // NaN
    std::vector<Fiber *> turns;
    for (auto &f : fibers) f->waits = NONE, f->ended = false, turns.push_back(f.get());
    do {
        if (shuffled) std::shuffle(turns.begin(), turns.end(), random);
        for (Fiber *f : turns)
            if (!f->ended && f->waits == NONE) resume(*f);
    } while (release());
    if (std::all_of(turns.begin(), turns.end(), [](Fiber *f) { return f->ended; })) return;
    fibers.clear();
    throw std::runtime_error("threads wait for others that never come");
}

static std::string failure;

// `order`: 0: threads take turns by their number; else at random, with this seed. Returns what went wrong; empty: nothing.
static const char *run_grid(const std::function<void()> &thread, int order, Dim grid, Dim block) {
    std::minstd_rand random(order);
    const int size = block.x * block.y * block.z;
    gridDim = grid, blockDim = block, body = &thread;
    failure.clear();
    try {
        while (int(fibers.size()) < size) fibers.push_back(std::make_unique<Fiber>());
        fibers.resize(size);
        for (int t = 0; t < size; ++t) fibers[t]->index = {t % block.x, t / block.x % block.y, t / block.x / block.y};
        for (int z = 0; z < grid.z; ++z)
            for (int y = 0; y < grid.y; ++y)
                for (int x = 0; x < grid.x; ++x) blockIdx = {x, y, z}, run_block(random, order != 0);
    } catch (const std::exception &error) {
        failure = error.what();
    }
    return failure.c_str();
}

// The kernel under its own name for ctypes: order, grid, block, then its arguments.
template <class... Arguments>
struct Kernel {
    template <void (*kernel)(Arguments...)>
    static const char *run(int order, int gx, int gy, int gz, int bx, int by, int bz, Arguments... arguments) {
        return run_grid([&] { kernel(arguments...); }, order, {gx, gy, gz}, {bx, by, bz});
    }
};

template <class... Arguments>
static Kernel<Arguments...> kernel_of(void (*)(Arguments...));

#define EXPORT(name) extern "C" void *const run_##name = (void *)decltype(kernel_of(name))::run<name>;

// ---- textures: the handle is the address of one

struct Texture {
    char *data;
    int layers, rows, cols, texel;  // bytes of a texel: 4 is read as it is, 2 interpolated
};

static float texel(const Texture &t, int layer, int row, int col) {
    const size_t at = (size_t(std::clamp(layer, 0, t.layers - 1)) * t.rows + std::clamp(row, 0, t.rows - 1)) * t.cols +
                      std::clamp(col, 0, t.cols - 1);
    return t.texel == 4 ? reinterpret_cast<const float *>(t.data)[at]
                        : float(reinterpret_cast<const _Float16 *>(t.data)[at]);
}

template <class T>
static T tex2DLayered(unsigned long long handle, float x, float y, int layer) {
    const Texture &t = *reinterpret_cast<const Texture *>(handle);
    if (t.texel == 4) return texel(t, layer, int(std::floor(y)), int(std::floor(x)));
    x -= 0.5f, y -= 0.5f;
    const int left = int(std::floor(x)), low = int(std::floor(y));
    const float a = std::round((x - left) * 256) / 256, b = std::round((y - low) * 256) / 256;
    return (1 - b) * ((1 - a) * texel(t, layer, low, left) + a * texel(t, layer, low, left + 1)) +
           b * ((1 - a) * texel(t, layer, low + 1, left) + a * texel(t, layer, low + 1, left + 1));
}

template <class T>
static T *on_surface(unsigned long long handle, int byte, int row, int layer) {
    static T nowhere;
    const Texture &t = *reinterpret_cast<const Texture *>(handle);
    const int width = t.cols * t.texel;
    if (sizeof(T) != size_t(t.texel) || byte % t.texel || byte < 0 || byte >= width || row < 0 || row >= t.rows ||
        layer < 0 || layer >= t.layers) {
        failure = "surface: byte " + std::to_string(byte) + ", row " + std::to_string(row) + ", layer " +
                  std::to_string(layer) + " is not on it";
        return &nowhere;
    }
    return reinterpret_cast<T *>(t.data + (size_t(layer) * t.rows + row) * width + byte);
}

template <class T>
static void surf2DLayeredwrite(T value, unsigned long long handle, int byte, int row, int layer) {
    *on_surface<T>(handle, byte, row, layer) = value;
}

template <class T>
static T surf2DLayeredread(unsigned long long handle, int byte, int row, int layer) {
    return *on_surface<T>(handle, byte, row, layer);
}
