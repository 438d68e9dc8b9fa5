// Convolutions and the gradients of their kernels, in registers: sums of products of one
// channel of pixels, broadcast, and vectors of output channels.
#ifndef DNAS_NN_NATIVE_CONV_H_
#define DNAS_NN_NATIVE_CONV_H_

#include "common.h"
#include "winograd.h"

namespace dnas {

// T vectors of outputs at `pixels` pixels.
template <int V, int T>
void ConvBlock(const float* x, int64_t step, const std::vector<int64_t>& taps, int64_t inputs,
               const float* kernel, int pixels, float* y, int64_t y_step, int64_t outputs) {
  vec<V> sum[kBlock][T] = {};
  for (const int64_t tap : taps) {
    const float* from = x + tap;
    for (int64_t c = 0; c < inputs; ++c, kernel += T * V) {
#pragma GCC unroll 8
      for (int p = 0; p < kBlock; ++p) {
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
  if (ThreeWide(g)) return WinogradConv<V>(pool, g, x, kernel, y, groups, all);
  const int64_t rows = g.taps.size() * inputs;
  std::vector<std::vector<float>> packed;
  for (int64_t group = 0; group < groups; ++group) {
    packed.push_back(Pack<V, T>(kernel, rows, all, group * outputs, outputs));
  }
  Parallel(pool, g.batch, [&](int64_t image) {
    const float* padded = g.Pad(x, image);
    for (int64_t i = 0; i < g.out[0]; ++i) {
      for (int64_t j = 0; j < g.out[1]; j += kBlock) {
        const int pixels = std::min<int64_t>(kBlock, g.out[1] - j);
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

// The gradient of one tap's kernel, [kBlock, T * V], summed over an image.
template <int V, int T>
void GradientBlock(const Geometry& g, const float* x, const float* y, int64_t all, int64_t inputs,
                   int64_t outputs, float* kernel) {
  vec<V> sum[kBlock][T] = {};
  for (int64_t i = 0; i < g.out[0]; ++i) {
    const float* from = x + g.Row(i);
    for (int64_t j = 0; j < g.out[1]; ++j, from += g.Step(), y += all) {
      vec<V> right[T];
      for (int t = 0; t < T; ++t) right[t] = load<V>(y + t * V);
#pragma GCC unroll 8
      for (int c = 0; c < kBlock; ++c) {
#pragma GCC unroll 4
        for (int t = 0; t < T; ++t) sum[c][t] += from[c] * right[t];
      }
    }
  }
  for (int c = 0; c < std::min<int64_t>(kBlock, inputs); ++c) {
    for (int t = 0; t < T; ++t) {
      float* to = kernel + c * all + t * V;
      const int64_t count = std::min<int64_t>(V, outputs - t * V);
      for (int64_t o = 0; o < count; ++o) to[o] += sum[c][t][o];
    }
  }
}

// The gradient of the kernel, by Winograd's products where its taps are three wide.
template <int V, int T>
void ConvKernel(ffi::ThreadPool& pool, const Geometry& g, const float* x, const float* y,
                float* kernel, int64_t groups, int64_t all) {
  const int64_t inputs = g.channels / groups, outputs = all / groups;
  const int64_t count = g.taps.size(), size = count * inputs * all;
  const bool winograd = ThreeWide(g);
  std::vector<float> parts(kParts * size, 0.0f);
  // The last block of an image may read past it: the last images need a copy with an end.
  const int64_t image_size = g.out[0] * g.out[1] * all;
  const int64_t first = image_size < kSlack ? 0 : g.batch - 1;
  std::vector<float> last(y + first * image_size, y + g.batch * image_size);
  last.resize(last.size() + kSlack, 0.0f);
  Parallel(pool, kParts, [&](int64_t part) {
    for (int64_t image = part; image < g.batch; image += kParts) {
      const float* left = g.Pad(x, image);
      if (winograd) left = TransformImage(g, left);
      const float* right =
          image >= first ? last.data() + (image - first) * image_size : y + image * image_size;
      for (int64_t tap = 0; tap < count; tap += winograd ? 3 : 1) {
        for (int64_t group = 0; group < groups; ++group) {
          for (int64_t c = 0; c < inputs; c += kBlock) {
            const int64_t channel = group * inputs + c;
            for (int64_t o = 0; o < outputs; o += T * V) {
              const int64_t output = group * outputs + o;
              float* to = &parts[part * size] + (tap * inputs + c) * all + output;
              if (winograd) {
                const int64_t row = tap / 3 * g.dilation[0] * RowOfPairs(g);
                WinogradGradient<V, T>(g, left + row + 4 * channel, right + output, all, inputs,
                                       inputs - c, outputs - o, to);
              } else {
                GradientBlock<V, T>(g, left + g.taps[tap] + channel, right + output, all,
                                    inputs - c, outputs - o, to);
              }
            }
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
  if (outputs % kLanes == 0 || outputs > 32) {
    const int64_t vectors = (outputs + kLanes - 1) / kLanes;
    if (vectors % 3 == 0) return f.template operator()<kLanes, 3>();
    if (vectors % 2 == 0) return f.template operator()<kLanes, 2>();
    return f.template operator()<kLanes, 1>();
  }
  const int64_t vectors = (outputs + 7) / 8;
  if (vectors % 3 == 0) return f.template operator()<8, 3>();
  if (vectors % 2 == 0) return f.template operator()<8, 2>();
  return f.template operator()<8, 1>();
}

}  // namespace dnas

#endif  // DNAS_NN_NATIVE_CONV_H_
