// Maxima of windows, and the taps that they come from.
#ifndef DNAS_NN_NATIVE_POOL_H_
#define DNAS_NN_NATIVE_POOL_H_

#include "common.h"

namespace dnas {

// The tap of every maximum: y[..., c] = max over taps of x[..., c], the first of equals.
template <int V>
void MaxPool(ffi::ThreadPool& pool, const Geometry& g, const float* x, float* y, uint8_t* where) {
  Parallel(pool, g.batch, [&](int64_t image) {
    const float* padded = g.Pad(x, image, -INFINITY);
    int64_t at = image * g.out[0] * g.out[1] * g.channels;
    for (int64_t i = 0; i < g.out[0]; ++i) {
      for (int64_t j = 0; j < g.out[1]; ++j, at += g.channels) {
        const float* from = padded + g.Row(i) + j * g.Step();
        for (int64_t c = 0; c < g.channels; c += V) {
          vec<V> best = load<V>(from + g.taps[0] + c);
          ints<V> tap = {};
          for (int t = 1; t < static_cast<int>(g.taps.size()); ++t) {
            const vec<V> value = load<V>(from + g.taps[t] + c);
            const auto larger = (value > best) | (value != value);  // NaN stays
            best = larger ? value : best;
            tap = larger ? ints<V>{} + t : tap;
          }
          store<V>(y + at + c, best, V);
          const auto narrow = __builtin_convertvector(tap, bytes<V>);
          std::memcpy(where + at + c, &narrow, V);
        }
      }
    }
  });
}

template <int V>
ints<V> LoadTaps(const uint8_t* where) {
  bytes<V> narrow;
  std::memcpy(&narrow, where, V);
  return __builtin_convertvector(narrow, ints<V>);
}

// y[..., c] = x at the tap that `where` names.
template <int V>
void Take(ffi::ThreadPool& pool, const Geometry& g, const float* x, const uint8_t* where,
          float* y) {
  Parallel(pool, g.batch, [&](int64_t image) {
    const float* padded = g.Pad(x, image);
    int64_t at = image * g.out[0] * g.out[1] * g.channels;
    for (int64_t i = 0; i < g.out[0]; ++i) {
      for (int64_t j = 0; j < g.out[1]; ++j, at += g.channels) {
        const float* from = padded + g.Row(i) + j * g.Step();
        for (int64_t c = 0; c < g.channels; c += V) {
          const ints<V> tap = LoadTaps<V>(where + at + c);
          vec<V> sum = {};
          for (int t = 0; t < static_cast<int>(g.taps.size()); ++t) {
            sum = tap == t ? load<V>(from + g.taps[t] + c) : sum;
          }
          store<V>(y + at + c, sum, V);
        }
      }
    }
  });
}

// The transpose of Take: x at the tap that `where` names += y[..., c].
template <int V>
void Put(ffi::ThreadPool& pool, const Geometry& g, const float* y, const uint8_t* where,
         float* x) {
  Parallel(pool, g.batch, [&](int64_t image) {
    thread_local std::vector<float> padded;
    padded.assign(g.padded[0] * g.padded[1] * g.channels, 0.0f);
    int64_t at = image * g.out[0] * g.out[1] * g.channels;
    for (int64_t i = 0; i < g.out[0]; ++i) {
      for (int64_t j = 0; j < g.out[1]; ++j, at += g.channels) {
        float* to = &padded[g.Row(i) + j * g.Step()];
        for (int64_t c = 0; c < g.channels; c += V) {
          const vec<V> value = load<V>(y + at + c);
          const ints<V> tap = LoadTaps<V>(where + at + c);
          for (int t = 0; t < static_cast<int>(g.taps.size()); ++t) {
            float* here = to + g.taps[t] + c;
            store<V>(here, load<V>(here) + (tap == t ? value : vec<V>{}), V);
          }
        }
      }
    }
    g.Crop(padded.data(), x, image);
  });
}

}  // namespace dnas

#endif  // DNAS_NN_NATIVE_POOL_H_
