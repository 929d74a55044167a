#include "ci/cli/session/device.hpp"

#include <fmt/format.h>

#include <charconv>
#include <optional>

#include "core/base/text.hpp"
#include "core/comm/launch.hpp"
#include "core/cuda/cuda.hpp"

namespace bv::cli {
namespace {

std::optional<int> number_of(std::string_view text) {
  int out = -1;
  const auto read = std::from_chars(text.data(), text.data() + text.size(), out);
  const bool whole = read.ec == std::errc() && read.ptr == text.data() + text.size();
  return whole && out >= 0 ? std::optional(out) : std::nullopt;
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
    const auto place = comm::place_on_host(
        [&](std::string_view name) { return std::string(variable(context.environment, name)); });
    number = comm::device_of(place, static_cast<std::int64_t>(cuda::look_around().devices.size()));
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
