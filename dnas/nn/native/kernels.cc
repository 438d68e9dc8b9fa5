// Convolutions of float32 images for XLA on the CPU; see __init__.py for what they compute.
//
// Every kernel copies an image into a buffer that has its padding (and the zeros of a dilated
// image) and then runs over that buffer without looking at borders. Vectors lie along output
// channels; blocks of pixels and channels stay in registers. Sums over images are made in a fixed
// number of parts, so that results do not depend on the number of threads.

#include <algorithm>
#include <array>
#include <atomic>
#include <cstdint>
#include <cstring>
#include <memory>
#include <vector>

#include "xla/ffi/api/ffi.h"

namespace ffi = xla::ffi;

namespace {

using Images = ffi::Buffer<ffi::F32>;
using Result = ffi::Result<Images>;
using Pair = std::array<int64_t, 2>;

constexpr int kPixels = 8;     // pixels in a block of a convolution
constexpr int kInputs = 8;     // input channels in a block of a kernel's gradient
constexpr int kTaps = 9;       // taps in a block of a depthwise kernel's gradient
constexpr int kParts = 8;      // parts of a sum over images
constexpr int kSlack = 16 * 64;  // a block's unused end may read past an image

template <int V>
struct Vector {
  typedef float type __attribute__((vector_size(4 * V), aligned(4), may_alias));
};

template <int V>
using vec = typename Vector<V>::type;

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

  Geometry(const int64_t* x, const int64_t* y, Pair kernel, ffi::Span<const int64_t> window)
      : in{x[1], x[2]}, out{y[1], y[2]}, kernel(kernel), stride{window[0], window[1]},
        low{window[2], window[3]}, spread{window[4], window[5]},
        dilation{window[6], window[7]}, batch(x[0]), channels(x[3]) {
    for (int i : {0, 1}) {
      padded[i] = (out[i] - 1) * stride[i] + (kernel[i] - 1) * dilation[i] + 1;
    }
    for (int64_t i = 0; i < kernel[0]; ++i) {
      for (int64_t j = 0; j < kernel[1]; ++j) {
        taps.push_back((i * dilation[0] * padded[1] + j * dilation[1]) * channels);
      }
    }
  }

  // The image with its padding, in a buffer of this thread.
  const float* Pad(const float* x, int64_t image) const {
    thread_local std::vector<float> buffer;
    buffer.assign(padded[0] * padded[1] * channels + kSlack * stride[1], 0.0f);
    x += image * in[0] * in[1] * channels;
    for (int64_t i = 0; i < in[0]; ++i) {
      const int64_t row = i * spread[0] + low[0];
      if (row < 0 || row >= padded[0]) continue;
      for (int64_t j = 0; j < in[1]; ++j) {
        const int64_t column = j * spread[1] + low[1];
        if (column < 0 || column >= padded[1]) continue;
        std::memcpy(&buffer[(row * padded[1] + column) * channels],
                    x + (i * in[1] + j) * channels, 4 * channels);
      }
    }
    return buffer.data();
  }

  int64_t Row(int64_t i) const { return i * stride[0] * padded[1] * channels; }
  int64_t Step() const { return stride[1] * channels; }
};

// Sums `parts` arrays of `size` floats, in order.
void SumParts(const std::vector<float>& parts, int64_t size, float* out) {
  std::fill_n(out, size, 0.0f);
  for (size_t p = 0; p < parts.size(); p += size) {
    for (int64_t i = 0; i < size; ++i) out[i] += parts[p + i];
  }
}

// T vectors of outputs at `pixels` pixels.
template <int V, int T>
void ConvBlock(const float* x, int64_t step, const std::vector<int64_t>& taps, int64_t inputs,
               const float* kernel, int pixels, float* y, int64_t y_step, int64_t outputs) {
  vec<V> sum[kPixels][T] = {};
  for (const int64_t tap : taps) {
    const float* from = x + tap;
    for (int64_t c = 0; c < inputs; ++c, kernel += T * V) {
#pragma GCC unroll 8
      for (int p = 0; p < kPixels; ++p) {
#pragma GCC unroll 4
        for (int t = 0; t < T; ++t) sum[p][t] += from[p * step + c] * load<V>(kernel + t * V);
      }
    }
  }
  for (int p = 0; p < pixels; ++p) {
    for (int t = 0; t < T; ++t) store<V>(y + p * y_step + t * V, sum[p][t], outputs - t * V);
  }
}

// The kernel's outputs in tiles of T vectors, each contiguous: [tiles, taps, inputs, T * V].
template <int V, int T>
std::vector<float> Pack(const float* kernel, int64_t rows, int64_t all, int64_t first,
                        int64_t outputs) {
  const int64_t tiles = (outputs + T * V - 1) / (T * V);
  std::vector<float> packed(tiles * rows * T * V, 0.0f);
  for (int64_t r = 0; r < rows; ++r) {
    for (int64_t o = 0; o < outputs; ++o) {
      packed[((o / (T * V)) * rows + r) * T * V + o % (T * V)] = kernel[r * all + first + o];
    }
  }
  return packed;
}

template <int V, int T>
void Conv(ffi::ThreadPool& pool, const Geometry& g, const float* x, const float* kernel, float* y,
          int64_t groups, int64_t all) {
  const int64_t inputs = g.channels / groups, outputs = all / groups;
  const int64_t rows = g.taps.size() * inputs;
  std::vector<std::vector<float>> packed;
  for (int64_t group = 0; group < groups; ++group) {
    packed.push_back(Pack<V, T>(kernel, rows, all, group * outputs, outputs));
  }
  Parallel(pool, g.batch, [&](int64_t image) {
    const float* padded = g.Pad(x, image);
    for (int64_t i = 0; i < g.out[0]; ++i) {
      for (int64_t j = 0; j < g.out[1]; j += kPixels) {
        const int pixels = std::min<int64_t>(kPixels, g.out[1] - j);
        float* to = y + ((image * g.out[0] + i) * g.out[1] + j) * all;
        for (int64_t group = 0; group < groups; ++group) {
          const float* from = padded + g.Row(i) + j * g.Step() + group * inputs;
          for (int64_t o = 0; o < outputs; o += T * V) {
            ConvBlock<V, T>(from, g.Step(), g.taps, inputs, &packed[group][o * rows], pixels,
                            to + group * outputs + o, all, outputs - o);
          }
        }
      }
    }
  });
}

// The gradient of one tap's kernel, [kInputs, T * V], summed over an image.
template <int V, int T>
void GradientBlock(const Geometry& g, const float* x, const float* y, int64_t all, int64_t inputs,
                   int64_t outputs, float* kernel) {
  vec<V> sum[kInputs][T] = {};
  for (int64_t i = 0; i < g.out[0]; ++i) {
    const float* from = x + g.Row(i);
    for (int64_t j = 0; j < g.out[1]; ++j, from += g.Step(), y += all) {
      vec<V> right[T];
      for (int t = 0; t < T; ++t) right[t] = load<V>(y + t * V);
#pragma GCC unroll 8
      for (int c = 0; c < kInputs; ++c) {
#pragma GCC unroll 4
        for (int t = 0; t < T; ++t) sum[c][t] += from[c] * right[t];
      }
    }
  }
  for (int c = 0; c < std::min<int64_t>(kInputs, inputs); ++c) {
    for (int t = 0; t < T; ++t) {
      float* to = kernel + c * all + t * V;
      const int64_t count = std::min<int64_t>(V, outputs - t * V);
      for (int64_t o = 0; o < count; ++o) to[o] += sum[c][t][o];
    }
  }
}

template <int V, int T>
void ConvKernel(ffi::ThreadPool& pool, const Geometry& g, const float* x, const float* y,
                float* kernel, int64_t groups, int64_t all) {
  const int64_t inputs = g.channels / groups, outputs = all / groups;
  const int64_t size = g.taps.size() * inputs * all;
  std::vector<float> parts(kParts * size, 0.0f);
  // The last block of an image may read past it: the last image needs a copy with an end.
  const int64_t image_size = g.out[0] * g.out[1] * all;
  std::vector<float> last(y + (g.batch - 1) * image_size, y + g.batch * image_size);
  last.resize(image_size + kSlack, 0.0f);
  Parallel(pool, kParts, [&](int64_t part) {
    for (int64_t image = part; image < g.batch; image += kParts) {
      const float* padded = g.Pad(x, image);
      const float* right = image == g.batch - 1 ? last.data() : y + image * image_size;
      for (size_t tap = 0; tap < g.taps.size(); ++tap) {
        for (int64_t group = 0; group < groups; ++group) {
          for (int64_t c = 0; c < inputs; c += kInputs) {
            for (int64_t o = 0; o < outputs; o += T * V) {
              GradientBlock<V, T>(g, padded + g.taps[tap] + group * inputs + c,
                                  right + group * outputs + o, all, inputs - c, outputs - o,
                                  &parts[part * size] + (tap * inputs + c) * all +
                                      group * outputs + o);
            }
          }
        }
      }
    }
  });
  SumParts(parts, size, kernel);
}

// y[..., o] = sum over taps of x[..., o mod channels] * kernel[tap, o].
template <int V>
void Depthwise(ffi::ThreadPool& pool, const Geometry& g, const float* x, const float* kernel,
               float* y, int64_t all) {
  Parallel(pool, g.batch, [&](int64_t image) {
    const float* padded = g.Pad(x, image);
    for (int64_t i = 0; i < g.out[0]; ++i) {
      for (int64_t j = 0; j < g.out[1]; j += kPixels) {
        const int pixels = std::min<int64_t>(kPixels, g.out[1] - j);
        float* to = y + ((image * g.out[0] + i) * g.out[1] + j) * all;
        for (int64_t o = 0; o < all; o += V) {
          const float* from = padded + g.Row(i) + j * g.Step() + o % g.channels;
          vec<V> sum[kPixels] = {};
          for (size_t tap = 0; tap < g.taps.size(); ++tap) {
            const vec<V> weight = load<V>(kernel + tap * all + o);
#pragma GCC unroll 8
            for (int p = 0; p < kPixels; ++p) {
              sum[p] += load<V>(from + g.taps[tap] + p * g.Step()) * weight;
            }
          }
          for (int p = 0; p < pixels; ++p) store<V>(to + p * all + o, sum[p], V);
        }
      }
    }
  });
}

template <int V>
void DepthwiseKernel(ffi::ThreadPool& pool, const Geometry& g, const float* x, const float* y,
                     float* kernel, int64_t all) {
  const int64_t count = g.taps.size(), size = count * all;
  std::vector<float> parts(kParts * size, 0.0f);
  Parallel(pool, kParts, [&](int64_t part) {
    for (int64_t image = part; image < g.batch; image += kParts) {
      const float* padded = g.Pad(x, image);
      for (int64_t o = 0; o < all; o += V) {
        for (int64_t first = 0; first < count; first += kTaps) {
          const int taps = std::min<int64_t>(kTaps, count - first);
          int64_t offsets[kTaps] = {};
          std::copy_n(&g.taps[first], taps, offsets);
          vec<V> sum[kTaps] = {};
          const float* right = y + image * g.out[0] * g.out[1] * all + o;
          for (int64_t i = 0; i < g.out[0]; ++i) {
            const float* from = padded + g.Row(i) + o % g.channels;
            for (int64_t j = 0; j < g.out[1]; ++j, from += g.Step(), right += all) {
              const vec<V> value = load<V>(right);
#pragma GCC unroll 9
              for (int t = 0; t < kTaps; ++t) sum[t] += load<V>(from + offsets[t]) * value;
            }
          }
          for (int t = 0; t < taps; ++t) {
            float* to = &parts[part * size + (first + t) * all + o];
            store<V>(to, load<V>(to) + sum[t], V);
          }
        }
      }
    }
  });
  SumParts(parts, size, kernel);
}

// Calls f<V, T>() with vectors of V outputs, T of them in a block.
template <typename F>
void WithBlock(int64_t outputs, const F& f) {
  if (outputs % 16 == 0 || outputs > 32) {
    const int64_t vectors = (outputs + 15) / 16;
    if (vectors % 3 == 0) return f.template operator()<16, 3>();
    if (vectors % 2 == 0) return f.template operator()<16, 2>();
    return f.template operator()<16, 1>();
  }
  const int64_t vectors = (outputs + 7) / 8;
  if (vectors % 3 == 0) return f.template operator()<8, 3>();
  if (vectors % 2 == 0) return f.template operator()<8, 2>();
  return f.template operator()<8, 1>();
}

// Calls f<V>() with the longest vectors that divide the channels.
template <typename F>
void WithVector(int64_t channels, const F& f) {
  if (channels % 16 == 0) return f.template operator()<16>();
  if (channels % 8 == 0) return f.template operator()<8>();
  if (channels % 4 == 0) return f.template operator()<4>();
  return f.template operator()<1>();
}

Pair Size(const Images& kernel) { return {kernel.dimensions()[0], kernel.dimensions()[1]}; }

ffi::Error ConvImpl(ffi::ThreadPool pool, Images x, Images kernel, Result y,
                    ffi::Span<const int64_t> window, int64_t groups) {
  const Geometry g(x.dimensions().begin(), y->dimensions().begin(), Size(kernel), window);
  const int64_t all = kernel.dimensions()[3];
  WithBlock(all / groups, [&]<int V, int T>() {
    Conv<V, T>(pool, g, x.typed_data(), kernel.typed_data(), y->typed_data(), groups, all);
  });
  return ffi::Error::Success();
}

ffi::Error ConvKernelImpl(ffi::ThreadPool pool, Images x, Images y, Result kernel,
                          ffi::Span<const int64_t> window, int64_t groups) {
  const Geometry g(x.dimensions().begin(), y.dimensions().begin(), Size(*kernel), window);
  const int64_t all = kernel->dimensions()[3];
  WithBlock(all / groups, [&]<int V, int T>() {
    ConvKernel<V, T>(pool, g, x.typed_data(), y.typed_data(), kernel->typed_data(), groups, all);
  });
  return ffi::Error::Success();
}

ffi::Error DepthwiseImpl(ffi::ThreadPool pool, Images x, Images kernel, Result y,
                         ffi::Span<const int64_t> window) {
  const Geometry g(x.dimensions().begin(), y->dimensions().begin(), Size(kernel), window);
  WithVector(g.channels, [&]<int V>() {
    Depthwise<V>(pool, g, x.typed_data(), kernel.typed_data(), y->typed_data(),
                 kernel.dimensions()[2]);
  });
  return ffi::Error::Success();
}

ffi::Error DepthwiseKernelImpl(ffi::ThreadPool pool, Images x, Images y, Result kernel,
                               ffi::Span<const int64_t> window) {
  const Geometry g(x.dimensions().begin(), y.dimensions().begin(), Size(*kernel), window);
  WithVector(g.channels, [&]<int V>() {
    DepthwiseKernel<V>(pool, g, x.typed_data(), y.typed_data(), kernel->typed_data(),
                       kernel->dimensions()[2]);
  });
  return ffi::Error::Success();
}

auto Binding() {
  return ffi::Ffi::Bind().Ctx<ffi::ThreadPool>().Arg<Images>().Arg<Images>().Ret<Images>().Attr<
      ffi::Span<const int64_t>>("window");
}

}  // namespace

XLA_FFI_DEFINE_HANDLER_SYMBOL(dnas_conv, ConvImpl, Binding().Attr<int64_t>("groups"));
XLA_FFI_DEFINE_HANDLER_SYMBOL(dnas_conv_kernel, ConvKernelImpl, Binding().Attr<int64_t>("groups"));
XLA_FFI_DEFINE_HANDLER_SYMBOL(dnas_depthwise, DepthwiseImpl, Binding());
XLA_FFI_DEFINE_HANDLER_SYMBOL(dnas_depthwise_kernel, DepthwiseKernelImpl, Binding());
