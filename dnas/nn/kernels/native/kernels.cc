// Convolutions, poolings and statistics of float32 images for XLA on the CPU.
//
// Kernels with windows copy an image into a buffer that has its padding (and the zeros of a dilated
// image) and then run over that buffer without looking at borders. Vectors lie along output
// channels; blocks of pixels and channels stay in registers. Sums over images are made in a fixed
// number of parts, so that results do not depend on the number of threads.

#include "common.h"
#include "conv.h"
#include "depthwise.h"
#include "norm.h"
#include "pool.h"

#ifdef __GLIBC__
#include <malloc.h>
#endif

namespace dnas {

#ifdef __GLIBC__
// XLA allocates what a step needs anew for each. glibc would return it to the system in between,
// and the system clears it, page by page: a quarter of the time of small steps. Now it keeps
// blocks below 64 MB (older ones take 32 at most); larger ones do not fit into the heaps of threads.
const bool keeps_memory =
    (mallopt(M_MMAP_THRESHOLD, 64 << 20) || mallopt(M_MMAP_THRESHOLD, 32 << 20)) &&
    mallopt(M_TRIM_THRESHOLD, 256 << 20);
#endif

using Images = ffi::Buffer<ffi::F32>;  // and whatever else is made of floats
using Result = ffi::Result<Images>;
using Taps = ffi::Buffer<ffi::U8>;
using Numbers = ffi::Span<const int64_t>;  // how a window moves, as in ../window.py, and its size

Pair Size(const Images& kernel) { return {kernel.dimensions()[0], kernel.dimensions()[1]}; }

ffi::Error ConvImpl(ffi::ThreadPool pool, Images x, Images kernel, Result y,
                    Numbers window, int64_t groups) {
  const Geometry g(x.dimensions().begin(), y->dimensions().begin(), Size(kernel), window);
  const int64_t all = kernel.dimensions()[3];
  WithBlock(all / groups, [&]<int V, int T>() {
    Conv<V, T>(pool, g, x.typed_data(), kernel.typed_data(), y->typed_data(), groups, all);
  });
  return ffi::Error::Success();
}

ffi::Error ConvKernelImpl(ffi::ThreadPool pool, Images x, Images y, Result kernel,
                          Numbers window, int64_t groups) {
  const Geometry g(x.dimensions().begin(), y.dimensions().begin(), Size(*kernel), window);
  const int64_t all = kernel->dimensions()[3];
  WithBlock(all / groups, [&]<int V, int T>() {
    ConvKernel<V, T>(pool, g, x.typed_data(), y.typed_data(), kernel->typed_data(), groups, all);
  });
  return ffi::Error::Success();
}

ffi::Error DepthwiseImpl(ffi::ThreadPool pool, Images x, Images kernel, Result y,
                         Numbers window) {
  const Geometry g(x.dimensions().begin(), y->dimensions().begin(), Size(kernel), window);
  const int64_t outputs = y->dimensions()[3];
  WithVector(std::min(g.channels, outputs), [&]<int V>() {
    Depthwise<V>(pool, g, x.typed_data(), kernel.typed_data(), y->typed_data(),
                 kernel.dimensions()[2], outputs);
  });
  return ffi::Error::Success();
}

ffi::Error DepthwiseKernelImpl(ffi::ThreadPool pool, Images x, Images y, Result kernel,
                               Numbers window) {
  const Geometry g(x.dimensions().begin(), y.dimensions().begin(), Size(*kernel), window);
  const int64_t outputs = y.dimensions()[3];
  WithVector(std::min(g.channels, outputs), [&]<int V>() {
    DepthwiseKernel<V>(pool, g, x.typed_data(), y.typed_data(), kernel->typed_data(), outputs);
  });
  return ffi::Error::Success();
}

// Puts images [..., channels] side by side: [..., images, channels].
ffi::Error StackImpl(ffi::ThreadPool pool, ffi::RemainingArgs images, Result y) {
  const auto d = y->dimensions();
  const int64_t count = d[d.size() - 2], channels = d[d.size() - 1];
  const int64_t pixels = y->element_count() / (count * channels);
  std::vector<const float*> from;
  for (int64_t i = 0; i < count; ++i) from.push_back(images.get<Images>(i)->typed_data());
  float* to = y->typed_data();
  constexpr int64_t kPixels = 1024;
  Parallel(pool, (pixels + kPixels - 1) / kPixels, [&](int64_t block) {
    for (int64_t p = block * kPixels; p < std::min(pixels, (block + 1) * kPixels); ++p) {
      for (int64_t i = 0; i < count; ++i) {
        std::copy_n(from[i] + p * channels, channels, to + (p * count + i) * channels);
      }
    }
  });
  return ffi::Error::Success();
}

// Nothing: that XLA calls it makes XLA store what it gets. Usually both are one buffer.
ffi::Error PinImpl(Images x, Result y) {
  const float* from = x.typed_data();
  if (y->typed_data() != from) std::copy_n(from, x.element_count(), y->typed_data());
  return ffi::Error::Success();
}

Pair PoolSize(Numbers window) { return {window[8], window[9]}; }

ffi::Error MaxPoolImpl(ffi::ThreadPool pool, Images x, Result y, ffi::Result<Taps> where,
                       Numbers window) {
  const Geometry g(x.dimensions().begin(), y->dimensions().begin(), PoolSize(window), window);
  WithVector(g.channels, [&]<int V>() {
    MaxPool<V>(pool, g, x.typed_data(), y->typed_data(), where->typed_data());
  });
  return ffi::Error::Success();
}

ffi::Error TakeImpl(ffi::ThreadPool pool, Images x, Taps where, Result y,
                    Numbers window) {
  const Geometry g(x.dimensions().begin(), y->dimensions().begin(), PoolSize(window), window);
  WithVector(g.channels, [&]<int V>() {
    Take<V>(pool, g, x.typed_data(), where.typed_data(), y->typed_data());
  });
  return ffi::Error::Success();
}

ffi::Error PutImpl(ffi::ThreadPool pool, Images y, Taps where, Result x,
                   Numbers window) {
  const Geometry g(x->dimensions().begin(), y.dimensions().begin(), PoolSize(window), window);
  WithVector(g.channels, [&]<int V>() {
    Put<V>(pool, g, y.typed_data(), where.typed_data(), x->typed_data());
  });
  return ffi::Error::Success();
}

ffi::Error MomentsImpl(ffi::ThreadPool pool, Images x, Result mean, Result variance) {
  const auto d = x.dimensions();
  WithVector(d[3], [&]<int V>() {
    Moments<V>(pool, x.typed_data(), d[0], d[1] * d[2], d[3], mean->typed_data(),
               variance->typed_data());
  });
  return ffi::Error::Success();
}

ffi::Error ProjectionsImpl(ffi::ThreadPool pool, Images g, Images x, Images mean, Images scale,
                           Result first, Result second) {
  const auto d = x.dimensions();
  WithVector(d[3], [&]<int V>() {
    Projections<V>(pool, g.typed_data(), x.typed_data(), mean.typed_data(), scale.typed_data(),
                   d[0], d[1] * d[2], d[3], first->typed_data(), second->typed_data());
  });
  return ffi::Error::Success();
}

auto Bind() { return ffi::Ffi::Bind().Ctx<ffi::ThreadPool>().Arg<Images>(); }

XLA_FFI_DEFINE_HANDLER_SYMBOL(
    dnas_conv, ConvImpl,
    Bind().Arg<Images>().Ret<Images>().Attr<Numbers>("window").Attr<int64_t>("groups"));
XLA_FFI_DEFINE_HANDLER_SYMBOL(
    dnas_conv_kernel, ConvKernelImpl,
    Bind().Arg<Images>().Ret<Images>().Attr<Numbers>("window").Attr<int64_t>("groups"));
XLA_FFI_DEFINE_HANDLER_SYMBOL(dnas_depthwise, DepthwiseImpl,
                              Bind().Arg<Images>().Ret<Images>().Attr<Numbers>("window"));
XLA_FFI_DEFINE_HANDLER_SYMBOL(dnas_depthwise_kernel, DepthwiseKernelImpl,
                              Bind().Arg<Images>().Ret<Images>().Attr<Numbers>("window"));
XLA_FFI_DEFINE_HANDLER_SYMBOL(dnas_max_pool, MaxPoolImpl,
                              Bind().Ret<Images>().Ret<Taps>().Attr<Numbers>("window"));
XLA_FFI_DEFINE_HANDLER_SYMBOL(dnas_take, TakeImpl,
                              Bind().Arg<Taps>().Ret<Images>().Attr<Numbers>("window"));
XLA_FFI_DEFINE_HANDLER_SYMBOL(dnas_put, PutImpl,
                              Bind().Arg<Taps>().Ret<Images>().Attr<Numbers>("window"));
XLA_FFI_DEFINE_HANDLER_SYMBOL(
    dnas_stack, StackImpl,
    ffi::Ffi::Bind().Ctx<ffi::ThreadPool>().RemainingArgs().Ret<Images>());
XLA_FFI_DEFINE_HANDLER_SYMBOL(dnas_pin, PinImpl, ffi::Ffi::Bind().Arg<Images>().Ret<Images>());
XLA_FFI_DEFINE_HANDLER_SYMBOL(dnas_moments, MomentsImpl, Bind().Ret<Images>().Ret<Images>());
XLA_FFI_DEFINE_HANDLER_SYMBOL(
    dnas_projections, ProjectionsImpl,
    Bind().Arg<Images>().Arg<Images>().Arg<Images>().Ret<Images>().Ret<Images>());

}  // namespace dnas
