// Convolutions with kernels three wide at stride 1: Winograd's minimal filtering (Lavin and Gray,
// 2016) along the width. Two neighbouring outputs y and four inputs d take four products, not six:
//
//   m = (d0 - d2) g0, (d1 + d2) (g0 + g1 + g2) / 2, (d2 - d1) (g0 - g1 + g2) / 2, (d1 - d3) g2
//   y = m0 + m1 + m2, m1 - m2 - m3
//
// and so does the gradient of the three taps. Rounding errors are relative to the largest of the
// inputs that go together, and infinities may become NaN.
#ifndef DNAS_NN_NATIVE_WINOGRAD_H_
#define DNAS_NN_NATIVE_WINOGRAD_H_

#include "common.h"

namespace dnas {

inline bool ThreeWide(const Geometry& g) {
  return g.kernel[1] == 3 && g.stride == Pair{1, 1} && g.dilation[1] == 1;
}

inline int64_t Pairs(const Geometry& g) { return (g.out[1] + 1) / 2; }

// How many floats of the transformed image lie between one row and the next.
inline int64_t RowOfPairs(const Geometry& g) { return Pairs(g) * 4 * g.channels; }

// The padded image as [rows, pairs, channels, 4], in a buffer of this thread.
inline const float* TransformImage(const Geometry& g, const float* x) {
  thread_local std::vector<float> buffer;
  buffer.resize(g.padded[0] * RowOfPairs(g) + kBlock * 4 * g.channels + kSlack);
  float* to = buffer.data();
  for (int64_t i = 0; i < g.padded[0]; ++i) {
    for (int64_t pair = 0; pair < Pairs(g); ++pair, to += 4 * g.channels) {
      const float* d = x + (i * g.padded[1] + 2 * pair) * g.channels;
      for (int64_t c = 0; c < g.channels; ++c) {
        const float d1 = d[g.channels + c], d2 = d[2 * g.channels + c];
        to[4 * c] = d[c] - d2;
        to[4 * c + 1] = d1 + d2;
        to[4 * c + 2] = d2 - d1;
        to[4 * c + 3] = d1 - d[3 * g.channels + c];
      }
    }
  }
  return buffer.data();
}

// A tile of `count` outputs as [rows, inputs, 4, size], from [rows, 3, inputs, all].
inline std::vector<float> TransformKernel(const float* kernel, int64_t rows, int64_t inputs,
                                          int64_t all, int64_t count, int64_t size) {
  std::vector<float> packed(rows * inputs * 4 * size, 0.0f);
  for (int64_t r = 0; r < rows * inputs; ++r) {
    const float* from = kernel + (r / inputs * 3 * inputs + r % inputs) * all;
    for (int64_t o = 0; o < count; ++o) {
      const float g0 = from[o], g1 = from[inputs * all + o], g2 = from[2 * inputs * all + o];
      float* to = &packed[r * 4 * size + o];
      to[0] = g0;
      to[size] = (g0 + g1 + g2) / 2;
      to[2 * size] = (g0 - g1 + g2) / 2;
      to[3 * size] = g2;
    }
  }
  return packed;
}

// T vectors of outputs at P pairs of pixels, for the whole image.
template <int V, int T, int P>
void WinogradTile(const Geometry& g, const float* x, int64_t inputs, const float* packed,
                  float* y, int64_t all, int64_t outputs) {
  const int64_t pairs = Pairs(g), step = 4 * g.channels;
  for (int64_t first = 0; first < g.out[0] * pairs; first += P) {
    vec<V> sum[P][4][T] = {};
    const float* kernel = packed;
    for (int64_t r = 0; r < g.kernel[0]; ++r) {
      const float* from = x + first * step + r * g.dilation[0] * RowOfPairs(g);
      for (int64_t c = 0; c < inputs; ++c, from += 4, kernel += 4 * T * V) {
#pragma GCC unroll 4
        for (int m = 0; m < 4; ++m) {
          vec<V> weight[T];
#pragma GCC unroll 4
          for (int t = 0; t < T; ++t) weight[t] = load<V>(kernel + (m * T + t) * V);
          asm volatile("" ::: "memory");  // loads once, not once for each pair
#pragma GCC unroll 8
          for (int p = 0; p < P; ++p) {
#pragma GCC unroll 4
            for (int t = 0; t < T; ++t) sum[p][m][t] += from[p * step + m] * weight[t];
          }
        }
      }
    }
#pragma GCC unroll 8
    for (int p = 0; p < P; ++p) {
      const int64_t row = (first + p) / pairs, column = 2 * ((first + p) % pairs);
      if (row >= g.out[0]) break;
      float* to = y + (row * g.out[1] + column) * all;
#pragma GCC unroll 4
      for (int t = 0; t < T; ++t) {
        const auto& m = sum[p];
        store<V>(to + t * V, m[0][t] + m[1][t] + m[2][t], outputs - t * V);
        if (column + 1 == g.out[1]) continue;
        store<V>(to + all + t * V, m[1][t] - m[2][t] - m[3][t], outputs - t * V);
      }
    }
  }
}

// Of the tiles that fill the registers, these leave the kernel in the first cache.
template <int V>
void WinogradConv(ffi::ThreadPool& pool, const Geometry& g, const float* x, const float* kernel,
                  float* y, int64_t groups, int64_t all) {
  const int64_t inputs = g.channels / groups, outputs = all / groups;
  struct Tile {
    int64_t first, input, count;
    std::vector<float> packed;
  };
  std::vector<Tile> tiles;
  for (int64_t group = 0; group < groups; ++group) {
    for (int64_t o = 0; o < outputs; o += 2 * V) {
      const int64_t count = std::min<int64_t>(2 * V, outputs - o), first = group * outputs + o;
      tiles.push_back({first, group * inputs, count,
                       TransformKernel(kernel + first, g.kernel[0], inputs, all, count,
                                       count > V ? 2 * V : V)});
    }
  }
  Parallel(pool, g.batch, [&](int64_t image) {
    const float* transformed = TransformImage(g, g.Pad(x, image));
    for (const Tile& t : tiles) {
      const auto block = t.count > V ? WinogradTile<V, 2, kBlock / 2 - 1>
                                     : WinogradTile<V, 1, kBlock / 2 + 1>;
      block(g, transformed + 4 * t.input, inputs, t.packed.data(),
            y + image * g.out[0] * g.out[1] * all + t.first, all, t.count);
    }
  });
}

// Product M of the four of a row's gradient, [kBlock, T * V], summed over an image: M of every pair
// in the transformed image `x` with g0, g0 + g1, g0 - g1 or -g1.
template <int V, int T, int M>
void WinogradGradientBlock(const Geometry& g, const float* x, const float* y, int64_t all,
                           vec<V> (&product)[kBlock][T]) {
  vec<V> sum[kBlock][T] = {};  // not `product` itself: these are registers
  const int64_t step = 4 * g.channels, whole = g.out[1] / 2, end = g.out[1] % 2;
  for (int64_t i = 0; i < g.out[0]; ++i, x += end * step, y += end * all) {
    const auto add = [&](auto right) {
      vec<V> value[T];
#pragma GCC unroll 4
      for (int t = 0; t < T; ++t) value[t] = right(y + t * V);
#pragma GCC unroll 8
      for (int c = 0; c < kBlock; ++c) {
#pragma GCC unroll 4
        for (int t = 0; t < T; ++t) sum[c][t] += x[4 * c + M] * value[t];
      }
    };
    for (int64_t pair = 0; pair < whole; ++pair, x += step, y += 2 * all) {
      add([&](const float* at) -> vec<V> {
        if constexpr (M == 0) return load<V>(at);
        if constexpr (M == 1) return load<V>(at) + load<V>(at + all);
        if constexpr (M == 2) return load<V>(at) - load<V>(at + all);
        return -load<V>(at + all);
      });
    }
    if (end && M < 3) add([](const float* at) -> vec<V> { return load<V>(at); });
  }
  for (int c = 0; c < kBlock; ++c) std::copy_n(sum[c], T, product[c]);
}

// Adds the gradient of one row of taps, [3, inputs, all], for a block of inputs and outputs.
template <int V, int T>
void WinogradGradient(const Geometry& g, const float* x, const float* y, int64_t all,
                      int64_t channels, int64_t inputs, int64_t outputs, float* kernel) {
  vec<V> m[4][kBlock][T];
  WinogradGradientBlock<V, T, 0>(g, x, y, all, m[0]);
  WinogradGradientBlock<V, T, 1>(g, x, y, all, m[1]);
  WinogradGradientBlock<V, T, 2>(g, x, y, all, m[2]);
  WinogradGradientBlock<V, T, 3>(g, x, y, all, m[3]);
  for (int c = 0; c < std::min<int64_t>(kBlock, inputs); ++c) {
    for (int t = 0; t < T; ++t) {
      const vec<V> half = (m[1][c][t] + m[2][c][t]) / 2;
      const vec<V> taps[3] = {m[0][c][t] + half, (m[1][c][t] - m[2][c][t]) / 2,
                              half + m[3][c][t]};
      for (int tap = 0; tap < 3; ++tap) {
        float* to = kernel + (tap * channels + c) * all + t * V;
        const int64_t count = std::min<int64_t>(V, outputs - t * V);
        for (int64_t o = 0; o < count; ++o) to[o] += taps[tap][o];
      }
    }
  }
}

}  // namespace dnas

#endif  // DNAS_NN_NATIVE_WINOGRAD_H_
