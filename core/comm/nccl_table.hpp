#pragma once
// What is called of NCCL and of the NVIDIA driver, found at run time.

#include <array>
#include <cstddef>

#include "core/comm/nccl.hpp"

namespace bv::comm::nccl {

// The C interfaces of nccl.h (2.x) and cuda.h, as far as they are called.
using Memory = unsigned long long;
struct Identity {
  std::array<char, 128> bytes{};
};
inline constexpr int kInt8 = 0;            // ncclInt8
inline constexpr int kInProgress = 7;      // ncclInProgress
inline constexpr int kNotReady = 600;      // CUDA_ERROR_NOT_READY
inline constexpr int kOldestNccl = 21000;  // 2.10: point to point, asynchronous errors

/// What is called of both libraries.
struct Table {
  int (*version)(int*) = nullptr;
  int (*unique_id)(Identity*) = nullptr;
  int (*init_rank)(void**, int, Identity, int) = nullptr;
  int (*destroy)(void*) = nullptr;
  int (*abort)(void*) = nullptr;
  int (*async_error)(void*, int*) = nullptr;
  int (*broadcast)(const void*, void*, std::size_t, int, int, void*, void*) = nullptr;
  int (*all_gather)(const void*, void*, std::size_t, int, void*, void*) = nullptr;
  int (*send)(const void*, std::size_t, int, int, void*, void*) = nullptr;
  int (*receive)(void*, std::size_t, int, int, void*, void*) = nullptr;
  int (*group_start)() = nullptr;
  int (*group_end)() = nullptr;
  const char* (*error_text)(int) = nullptr;

  int (*init)(unsigned) = nullptr;
  int (*device_count)(int*) = nullptr;
  int (*device_get)(int*, int) = nullptr;
  int (*context_retain)(void**, int) = nullptr;
  int (*context_set)(void*) = nullptr;
  int (*allocate)(Memory*, std::size_t) = nullptr;
  int (*release)(Memory) = nullptr;
  int (*to_device)(Memory, const void*, std::size_t) = nullptr;
  int (*to_host)(void*, Memory, std::size_t) = nullptr;
  int (*stream_create)(void**, unsigned) = nullptr;
  int (*stream_destroy)(void*) = nullptr;
  int (*stream_query)(void*) = nullptr;
};

/// Errors: NoGpu for a library that is not there or lacks a function.
[[nodiscard]] Result<Table> open_table(const NcclNames& names);

}  // namespace bv::comm::nccl
