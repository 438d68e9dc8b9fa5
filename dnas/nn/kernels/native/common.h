// What the kernels have in common: vectors, threads, and images with their padding.
#ifndef DNAS_NN_NATIVE_COMMON_H_
#define DNAS_NN_NATIVE_COMMON_H_

#include <algorithm>
#include <array>
#include <atomic>
#include <cmath>
#include <cstdint>
#include <cstring>
#include <memory>
#include <vector>

#include "xla/ffi/api/ffi.h"

namespace dnas {

namespace ffi = xla::ffi;

using Pair = std::array<int64_t, 2>;

// Floats in the longest vectors. A block of three times eight of them fills the 32 registers that
// come with AVX-512, three times four the 16 of older processors.
#ifdef __AVX512F__
constexpr int kLanes = 16, kBlock = 8;
#else
constexpr int kLanes = 8, kBlock = 4;
#endif
constexpr int kParts = 8;       // parts of a sum over images
constexpr int kSlack = 4 * 16;  // a block's unused end may read past an image

template <int V>
struct Vector {
  typedef float floats __attribute__((vector_size(4 * V), aligned(4), may_alias));
  typedef int32_t ints __attribute__((vector_size(4 * V)));
  typedef uint8_t bytes __attribute__((vector_size(V)));
};

template <int V>
using vec = typename Vector<V>::floats;
template <int V>
using ints = typename Vector<V>::ints;
template <int V>
using bytes = typename Vector<V>::bytes;

template <int V>
const vec<V>& load(const float* p) {
  return *reinterpret_cast<const vec<V>*>(p);
}

template <int V>
void store(float* p, vec<V> v, int64_t count) {
  if (count >= V) {
    *reinterpret_cast<vec<V>*>(p) = v;
  } else if (count > 0) {
    std::memcpy(p, &v, 4 * count);
  }
}

// Calls f(0) ... f(n - 1), on all threads of the pool. The caller works, too, and waits only for
// calls that have begun: no deadlock where it occupies a thread of the pool.
template <typename F>
void Parallel(ffi::ThreadPool& pool, int64_t n, const F& f) {
  struct State {
    std::atomic<int64_t> next{0}, done{0};
  };
  auto state = std::make_shared<State>();
  auto work = [state, n, &f] {
    for (int64_t i; (i = state->next++) < n;) {
      f(i);
      if (++state->done == n) state->done.notify_all();
    }
  };
  for (int64_t t = std::min<int64_t>(pool.num_threads(), n) - 1; t > 0; --t) {
    pool.Schedule(std::decay_t<decltype(work)>(work));
  }
  work();
  for (int64_t done; (done = state->done) < n;) state->done.wait(done);
}

// The geometry of a convolution of [batch, height, width, channels].
struct Geometry {
  Pair in, out, kernel, stride, low, spread, dilation;  // spread: dilation of the image
  Pair padded;
  int64_t batch, channels;
  std::vector<int64_t> taps;  // where each tap reads, from the first
  int64_t id;                 // no two calls share it

  Geometry(const int64_t* x, const int64_t* y, Pair kernel, ffi::Span<const int64_t> window)
      : in{x[1], x[2]}, out{y[1], y[2]}, kernel(kernel), stride{window[0], window[1]},
        low{window[2], window[3]}, spread{window[4], window[5]},
        dilation{window[6], window[7]}, batch(x[0]), channels(x[3]) {
    static std::atomic<int64_t> calls{0};
    id = ++calls;
    for (int i : {0, 1}) {
      padded[i] = (out[i] - 1) * stride[i] + (kernel[i] - 1) * dilation[i] + 1;
    }
    for (int64_t i = 0; i < kernel[0]; ++i) {
      for (int64_t j = 0; j < kernel[1]; ++j) {
        taps.push_back((i * dilation[0] * padded[1] + j * dilation[1]) * channels);
      }
    }
  }

  // Calls f(where it lies in the image, where in the padded one, floats) for every run of pixels.
  template <typename F>
  void ForRuns(int64_t image, const F& f) const {
    const int64_t run = spread[1] == 1 ? in[1] : 1;
    for (int64_t i = 0; i < in[0]; ++i) {
      const int64_t row = i * spread[0] + low[0];
      if (row < 0 || row >= padded[0]) continue;
      for (int64_t j = 0; j < in[1]; j += run) {
        const int64_t column = j * spread[1] + low[1];
        const int64_t first = std::max<int64_t>(column, 0);
        const int64_t count = std::min(column + run, padded[1]) - first;
        if (count <= 0) continue;
        f(((image * in[0] + i) * in[1] + j + first - column) * channels,
          (row * padded[1] + first) * channels, count * channels);
      }
    }
  }

  // The image with its padding, in a buffer of this thread unless it has none and others follow.
  const float* Pad(const float* x, int64_t image, float fill = 0.0f) const {
    const int64_t size = in[0] * in[1] * channels;
    // Blocks may read past an image, so those that follow must be long enough.
    if (padded == in && low == Pair{0, 0} && spread == Pair{1, 1} &&
        (batch - image - 1) * size >= kBlock * Step() + kSlack) {
      return x + image * size;
    }
    thread_local std::vector<float> buffer;
    thread_local int64_t owner = 0;
    if (owner != id) {  // what no image covers stays as it is from image to image
      buffer.assign(padded[0] * padded[1] * channels + kBlock * Step() + kSlack, fill);
      owner = id;
    }
    ForRuns(image, [&](int64_t from, int64_t to, int64_t count) {
      std::copy_n(x + from, count, &buffer[to]);
    });
    return buffer.data();
  }

  // The inverse of Pad: what lies on the image itself.
  void Crop(const float* padded, float* x, int64_t image) const {
    const int64_t size = in[0] * in[1] * channels;
    std::fill_n(x + image * size, size, 0.0f);
    ForRuns(image, [&](int64_t to, int64_t from, int64_t count) {
      std::copy_n(padded + from, count, x + to);
    });
  }

  int64_t Row(int64_t i) const { return i * stride[0] * padded[1] * channels; }
  int64_t Step() const { return stride[1] * channels; }
};

// Sums `parts` arrays of `size` floats, in order.
inline void SumParts(const std::vector<float>& parts, int64_t size, float* out) {
  std::fill_n(out, size, 0.0f);
  for (size_t p = 0; p < parts.size(); p += size) {
    for (int64_t i = 0; i < size; ++i) out[i] += parts[p + i];
  }
}

// Calls f<V>() with the longest vectors that divide the channels.
template <typename F>
void WithVector(int64_t channels, const F& f) {
  if (channels % kLanes == 0) return f.template operator()<kLanes>();
  if (channels % 8 == 0) return f.template operator()<8>();
  if (channels % 4 == 0) return f.template operator()<4>();
  return f.template operator()<1>();
}

}  // namespace dnas

#endif  // DNAS_NN_NATIVE_COMMON_H_
