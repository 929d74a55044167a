#pragma once
// Functions that run on the host and, compiled by nvcc, on a GPU as well.

#if defined(__CUDACC__)
#define BV_HOST_DEVICE __host__ __device__
#else
#define BV_HOST_DEVICE
#endif
