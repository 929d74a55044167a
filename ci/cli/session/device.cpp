#include "ci/cli/session/device.hpp"

#include <fmt/format.h>

#include <charconv>
#include <optional>

#include "core/base/text.hpp"
#include "core/cuda/cuda.hpp"

namespace bv::cli {
namespace {

std::optional<int> number_of(std::string_view text) {
  int out = -1;
  const auto read = std::from_chars(text.data(), text.data() + text.size(), out);
  const bool whole = read.ec == std::errc() && read.ptr == text.data() + text.size();
  return whole && out >= 0 ? std::optional(out) : std::nullopt;
}

/// Of the processes that one launcher started on this host.
int place_on_host(const Context& context) {
  for (const std::string_view name :
       {"LOCAL_RANK", "SLURM_LOCALID", "OMPI_COMM_WORLD_LOCAL_RANK", "MPI_LOCALRANKID"}) {
    if (const auto number = number_of(variable(context.environment, name))) {
      return *number;
    }
  }
  return 0;
}

}  // namespace

Result<std::unique_ptr<cuda::StagedExecutor>> open_device(const Context& context,
                                                          const Options& options) {
  const std::string_view device = options.device;
  if (device.empty() || device == "cpu") {
    return std::unique_ptr<cuda::StagedExecutor>();
  }
  std::optional<int> number;
  if (device == "cuda") {
    number = place_on_host(context);
  } else if (device.starts_with("cuda:")) {
    number = number_of(device.substr(5));
  }
  if (!number) {
    return fail(Code::BadValue, fmt::format("--device {} is not a device", escaped(device)))
        .pair(escaped(device), "cpu or cuda[:N]")
        .advise("write --device cpu");
  }
  auto opened = cuda::open_device(*number);
  if (!opened) {
    Error error = std::move(opened).error();
    error.message = fmt::format("--device {}: {}", device, error.message);
    return error;
  }
  return std::make_unique<cuda::StagedExecutor>(std::move(*opened));
}

void add_notes_of(const cuda::StagedExecutor* device, Run& run) {
  if (device != nullptr) {
    const std::vector<std::string> notes = device->notes();
    run.notes.insert(run.notes.end(), notes.begin(), notes.end());
  }
}

}  // namespace bv::cli
