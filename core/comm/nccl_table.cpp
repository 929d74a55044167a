#include "core/comm/nccl_table.hpp"

#include <dlfcn.h>
#include <fmt/format.h>

#include "core/base/text.hpp"

namespace bv::comm::nccl {
namespace {

/// The names of functions to look for, each with its place in the table.
class Loader {
 public:
  explicit Loader(const std::vector<std::string>& names) {
    for (const std::string& name : names) {
      library_ = library_ == nullptr ? ::dlopen(name.c_str(), RTLD_NOW | RTLD_LOCAL) : library_;
      tried_ += (tried_.empty() ? "" : ", ") + name;
    }
    const char* why = library_ == nullptr ? ::dlerror() : nullptr;
    said_ = why == nullptr ? "" : why;
  }

  template <class Function>
  void find(Function& into, const char* name) {
    into = library_ == nullptr ? nullptr : reinterpret_cast<Function>(::dlsym(library_, name));
    if (into == nullptr) {
      missing_.emplace_back(name);
    }
  }

  [[nodiscard]] Status status(const char* what) const {
    if (library_ == nullptr) {
      return fail(Code::NoGpu, fmt::format("{} is not here", what))
          .pair(said_.empty() ? "no library of that name" : said_,
                tried_ + " where the loader looks")
          .advise("add its folder to LD_LIBRARY_PATH, or leave the collectives to the sockets");
    }
    if (!missing_.empty()) {
      return fail(Code::NoGpu,
                  fmt::format("{} lacks {}", what, counted(missing_.size(), "function")))
          .pair(join(missing_, ", "), tried_ + " with all of them")
          .advise("use a newer library, or leave the collectives to the sockets");
    }
    return Done{};
  }

 private:
  void* library_ = nullptr;
  std::string tried_, said_;
  std::vector<std::string> missing_;
};

}  // namespace

Result<Table> open_table(const NcclNames& names) {
  Table out;
  Loader driver(names.driver);
  driver.find(out.init, "cuInit");
  driver.find(out.device_count, "cuDeviceGetCount");
  driver.find(out.device_get, "cuDeviceGet");
  driver.find(out.context_retain, "cuDevicePrimaryCtxRetain");
  driver.find(out.context_set, "cuCtxSetCurrent");
  driver.find(out.allocate, "cuMemAlloc_v2");
  driver.find(out.release, "cuMemFree_v2");
  driver.find(out.to_device, "cuMemcpyHtoD_v2");
  driver.find(out.to_host, "cuMemcpyDtoH_v2");
  driver.find(out.stream_create, "cuStreamCreate");
  driver.find(out.stream_destroy, "cuStreamDestroy_v2");
  driver.find(out.stream_query, "cuStreamQuery");
  BV_CHECK(driver.status("the NVIDIA driver"));
  Loader nccl(names.nccl);
  nccl.find(out.version, "ncclGetVersion");
  nccl.find(out.unique_id, "ncclGetUniqueId");
  nccl.find(out.init_rank, "ncclCommInitRank");
  nccl.find(out.destroy, "ncclCommDestroy");
  nccl.find(out.abort, "ncclCommAbort");
  nccl.find(out.async_error, "ncclCommGetAsyncError");
  nccl.find(out.broadcast, "ncclBroadcast");
  nccl.find(out.all_gather, "ncclAllGather");
  nccl.find(out.send, "ncclSend");
  nccl.find(out.receive, "ncclRecv");
  nccl.find(out.group_start, "ncclGroupStart");
  nccl.find(out.group_end, "ncclGroupEnd");
  nccl.find(out.error_text, "ncclGetErrorString");
  BV_CHECK(nccl.status("NCCL"));
  return out;
}

}  // namespace bv::comm::nccl
