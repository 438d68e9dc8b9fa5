// Statistics of batch normalisation.
#ifndef DNAS_NN_NATIVE_NORM_H_
#define DNAS_NN_NATIVE_NORM_H_

#include "common.h"

namespace dnas {

// Mean and variance of every channel of [batch, pixels, channels], in one pass over memory.
template <int V>
void Moments(ffi::ThreadPool& pool, const float* x, int64_t batch, int64_t pixels,
             int64_t channels, float* mean, float* variance) {
  std::vector<float> means(batch * channels), squares(batch * channels);
  Parallel(pool, batch, [&](int64_t image) {
    for (int64_t c = 0; c < channels; c += V) {
      const float* from = x + image * pixels * channels + c;
      vec<V> sum = {}, square = {};
      for (int64_t p = 0; p < pixels; ++p) sum += load<V>(from + p * channels);
      const vec<V> centre = sum / static_cast<float>(pixels);
      for (int64_t p = 0; p < pixels; ++p) {
        const vec<V> distance = load<V>(from + p * channels) - centre;
        square += distance * distance;
      }
      store<V>(&means[image * channels + c], centre, V);
      store<V>(&squares[image * channels + c], square / static_cast<float>(pixels), V);
    }
  });
  for (int64_t c = 0; c < channels; ++c) {
    double first = 0, second = 0, within = 0;
    for (int64_t i = 0; i < batch; ++i) first += means[i * channels + c];
    first /= batch;
    for (int64_t i = 0; i < batch; ++i) {
      second += (means[i * channels + c] - first) * (means[i * channels + c] - first);
      within += squares[i * channels + c];
    }
    mean[c] = first;
    variance[c] = (within + second) / batch;
  }
}

// Means of g and of g * (x - mean) * scale for every channel.
template <int V>
void Projections(ffi::ThreadPool& pool, const float* g, const float* x, const float* mean,
                 const float* scale, int64_t batch, int64_t pixels, int64_t channels,
                 float* first, float* second) {
  std::vector<float> parts(2 * batch * channels);
  Parallel(pool, batch, [&](int64_t image) {
    for (int64_t c = 0; c < channels; c += V) {
      const int64_t at = image * pixels * channels + c;
      const vec<V> centre = load<V>(mean + c);
      vec<V> sum = {}, product = {};
      for (int64_t p = 0; p < pixels; ++p) {
        const vec<V> value = load<V>(g + at + p * channels);
        sum += value;
        product += value * (load<V>(x + at + p * channels) - centre);
      }
      store<V>(&parts[2 * image * channels + c], sum, V);
      store<V>(&parts[(2 * image + 1) * channels + c], product * load<V>(scale + c), V);
    }
  });
  for (int64_t c = 0; c < channels; ++c) {
    double sum = 0, product = 0;
    for (int64_t i = 0; i < batch; ++i) {
      sum += parts[2 * i * channels + c];
      product += parts[(2 * i + 1) * channels + c];
    }
    first[c] = sum / (batch * pixels);
    second[c] = product / (batch * pixels);
  }
}

}  // namespace dnas

#endif  // DNAS_NN_NATIVE_NORM_H_
