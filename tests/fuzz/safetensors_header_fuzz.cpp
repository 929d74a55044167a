// libFuzzer entry for the header reader (tests/fuzz/run.sh). Properties: the reader gives a verdict
// on every file; what it accepts tiles the file; what it accepts without a finding is what our
// writer writes again, and what the writer wrote is written again byte for byte.
#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <span>

#include "core/io/checkpoint.hpp"
#include "core/io/writer.hpp"

namespace {

std::vector<bv::TensorSpec> specs_of(const bv::io::SafetensorsHeader& header) {
  std::vector<bv::TensorSpec> out;
  for (const bv::io::StoredTensor& tensor : header.tensors) {
    out.push_back(tensor.spec);
  }
  return out;
}

std::vector<bv::TensorSpec> by_name(std::vector<bv::TensorSpec> specs) {
  std::sort(specs.begin(), specs.end(),
            [](const auto& a, const auto& b) { return a.name < b.name; });
  return specs;
}

void check_written(const bv::io::SafetensorsHeader& header) {
  const auto plan = bv::io::plan_safetensors(specs_of(header), header.metadata);
  BV_ASSERT(plan);
  const auto again = bv::io::parse_safetensors_header(
      std::as_bytes(std::span(plan->header.data(), plan->header.size())), plan->file_size,
      "written");
  BV_ASSERT(again && again->findings.empty() && again->metadata == header.metadata);
  BV_ASSERT(specs_of(*again) == plan->tensors);
  BV_ASSERT(by_name(specs_of(*again)) == by_name(specs_of(header)));
  const auto fixed = bv::io::plan_safetensors(specs_of(*again), again->metadata);
  BV_ASSERT(fixed && fixed->header == plan->header && fixed->offsets == plan->offsets &&
            fixed->file_size == plan->file_size);
}

void check(std::span<const std::byte> file) {
  const auto header = bv::io::parse_safetensors_header(file, file.size(), "fuzz");
  const auto data_begin = bv::io::safetensors_data_begin(file, file.size(), "fuzz");
  if (!header) {
    BV_ASSERT(!header.error().message.empty() && !header.error().help.empty());
    return;
  }
  BV_ASSERT(data_begin && *data_begin == header->data_begin);
  std::uint64_t cursor = header->data_begin;
  for (const bv::io::StoredTensor& tensor : header->tensors) {
    BV_ASSERT(tensor.begin == cursor && tensor.end >= tensor.begin && tensor.end <= file.size());
    cursor = tensor.end;
  }
  BV_ASSERT(cursor == file.size());
  for (const bv::io::FormatFinding& finding : header->findings) {
    BV_ASSERT(!finding.what.empty());
  }
  if (header->findings.empty()) {
    check_written(*header);
  }
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  check(std::as_bytes(std::span(data, size)));
  return 0;
}
