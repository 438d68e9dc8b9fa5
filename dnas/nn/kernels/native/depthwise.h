// Convolutions of every channel by itself.
#ifndef DNAS_NN_NATIVE_DEPTHWISE_H_
#define DNAS_NN_NATIVE_DEPTHWISE_H_

#include "common.h"

namespace dnas {

constexpr int kTaps = 9;  // taps in a block of a kernel's gradient

// y[..., k mod outputs] += sum over taps of x[..., k mod channels] * kernel[tap, k], for all k.
template <int V>
void Depthwise(ffi::ThreadPool& pool, const Geometry& g, const float* x, const float* kernel,
               float* y, int64_t all, int64_t outputs) {
  Parallel(pool, g.batch, [&](int64_t image) {
    const float* padded = g.Pad(x, image);
    for (int64_t i = 0; i < g.out[0]; ++i) {
      for (int64_t j = 0; j < g.out[1]; j += kBlock) {
        const int pixels = std::min<int64_t>(kBlock, g.out[1] - j);
        float* to = y + ((image * g.out[0] + i) * g.out[1] + j) * outputs;
        for (int64_t o = 0; o < outputs; o += V) {
          vec<V> sum[kBlock] = {};
          for (int64_t k = o; k < all; k += outputs) {
            const float* from = padded + g.Row(i) + j * g.Step() + k % g.channels;
            for (size_t tap = 0; tap < g.taps.size(); ++tap) {
              const vec<V> weight = load<V>(kernel + tap * all + k);
#pragma GCC unroll 8
              for (int p = 0; p < kBlock; ++p) {
                sum[p] += load<V>(from + g.taps[tap] + p * g.Step()) * weight;
              }
            }
          }
          for (int p = 0; p < pixels; ++p) store<V>(to + p * outputs + o, sum[p], V);
        }
      }
    }
  });
}

template <int V>
void DepthwiseKernel(ffi::ThreadPool& pool, const Geometry& g, const float* x, const float* y,
                     float* kernel, int64_t outputs) {
  const int64_t all = std::max(g.channels, outputs);
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
          const float* right = y + image * g.out[0] * g.out[1] * outputs + o % outputs;
          for (int64_t i = 0; i < g.out[0]; ++i) {
            const float* from = padded + g.Row(i) + o % g.channels;
            for (int64_t j = 0; j < g.out[1]; ++j, from += g.Step(), right += outputs) {
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

}  // namespace dnas

#endif  // DNAS_NN_NATIVE_DEPTHWISE_H_
