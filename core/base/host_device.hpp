#pragma once
// Functions that run on the host and, compiled by nvcc, on a GPU as well.

#if defined(__CUDACC__)
#define BV_HOST_DEVICE __host__ __device__
#else
#define BV_HOST_DEVICE
#endif

/// Before a loop over places of an array that has to stay in registers of a device.
#if defined(__CUDA_ARCH__)
#define BV_UNROLL _Pragma("unroll")
#else
#define BV_UNROLL
#endif
