// libFuzzer entry for the header reader; needs clang:
//   clang++ -std=c++20 -g -O1 -fsanitize=fuzzer,address,undefined -I.
//   tests/fuzz/safetensors_header_fuzz.cpp \
//     core/io/{json_cursor,json_text,utf8,fault_text,safetensors_header,safetensors_check,safetensors_plan}.cpp
//     core/base/*.cpp -lfmt
// Property: the reader gives a verdict on every file, and what it accepts without a finding is what
// our writer writes again.
#include <cstddef>
#include <cstdint>
#include <span>

#include "core/io/checkpoint.hpp"
#include "core/io/writer.hpp"

namespace {

void check(std::span<const std::byte> file) {
  const auto header = bv::io::parse_safetensors_header(file, file.size(), "fuzz");
  if (!header) {
    BV_ASSERT(!header.error().message.empty() && !header.error().help.empty());
    return;
  }
  std::vector<bv::TensorSpec> specs;
  std::uint64_t cursor = header->data_begin;
  for (const bv::io::StoredTensor& tensor : header->tensors) {
    BV_ASSERT(tensor.begin == cursor && tensor.end >= tensor.begin && tensor.end <= file.size());
    cursor = tensor.end;
    specs.push_back(tensor.spec);
  }
  BV_ASSERT(cursor == file.size());
  if (!header->findings.empty()) {
    return;
  }
  const auto plan = bv::io::plan_safetensors(std::move(specs), header->metadata);
  BV_ASSERT(plan);
  const auto again = bv::io::parse_safetensors_header(
      std::as_bytes(std::span(plan->header.data(), plan->header.size())), plan->file_size,
      "written");
  BV_ASSERT(again && again->tensors.size() == header->tensors.size() &&
            again->metadata == header->metadata);
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  check(std::as_bytes(std::span(data, size)));
  return 0;
}
