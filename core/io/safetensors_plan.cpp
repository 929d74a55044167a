// Header text and tensor order of the reference writer (docs/reference/formats.md#writing;
// safetensors tensor.rs:218-342, 24b0b2857f).
#include <fmt/format.h>

#include <algorithm>
#include <cstring>

#include "core/base/arith.hpp"
#include "core/base/text.hpp"
#include "core/io/fault_text.hpp"
#include "core/io/json_cursor.hpp"
#include "core/io/json_text.hpp"
#include "core/io/safetensors_format.hpp"
#include "core/io/utf8.hpp"
#include "core/io/writer.hpp"

namespace bv::io {
namespace {

Status check_text(std::string_view text, std::string_view what) {
  if (first_invalid_utf8(text) != std::string_view::npos) {
    return fail(Code::HeaderNotJson,
                fmt::format("{} {} is not UTF-8, which the format demands", what, in_quotes(text)))
        .advise("rename it");
  }
  return Done{};
}

Result<std::uint64_t> byte_count(const TensorSpec& spec) {
  const bool negative = std::any_of(spec.shape.begin(), spec.shape.end(),
                                    [](std::int64_t extent) { return extent < 0; });
  const auto elements = element_count(spec.shape);
  const auto all_bits =
      elements && !negative ? checked_mul(*elements, bits(spec.dtype)) : std::nullopt;
  if (!all_bits || *all_bits % 8 != 0) {
    return fail(Code::TensorSizeInvalid,
                fmt::format("tensor {} cannot be stored", in_quotes(spec.name)))
        .pair(fmt::format("{}{}", name(spec.dtype), shape_text(spec.shape)),
              "dimensions of at least 0, a whole number of bytes, at most 2^63-1 bits")
        .advise("correct the shape");
  }
  return static_cast<std::uint64_t>(*all_bits / 8);
}

Status check_names(const std::vector<TensorSpec>& tensors) {
  std::vector<std::string_view> names;
  names.reserve(tensors.size());
  for (const TensorSpec& tensor : tensors) {
    BV_CHECK(check_text(tensor.name, "tensor name"));
    names.push_back(tensor.name);
  }
  std::sort(names.begin(), names.end());
  if (const auto twice = std::adjacent_find(names.begin(), names.end()); twice != names.end()) {
    return fail(Code::DuplicateKey,
                fmt::format("tensor {} is to be written twice", in_quotes(*twice)))
        .advise("keep one of them");
  }
  if (std::binary_search(names.begin(), names.end(), "__metadata__")) {
    return fail(Code::HeaderNotJson,
                "a tensor has the name __metadata__, which the format keeps for itself")
        .advise("rename it");
  }
  return Done{};
}

void append_metadata(std::string& out, const std::map<std::string, std::string>& metadata) {
  out += "\"__metadata__\":{";
  bool first = true;
  for (const auto& [key, value] : metadata) {
    out += first ? "" : ",";
    first = false;
    append_json_string(out, key);
    out += ':';
    append_json_string(out, value);
  }
  out += '}';
}

void append_entry(std::string& out, const TensorSpec& spec, std::uint64_t begin,
                  std::uint64_t end) {
  append_json_string(out, spec.name);
  fmt::format_to(std::back_inserter(out),
                 R"(:{{"dtype":"{}","shape":[{}],"data_offsets":[{},{}]}})", name(spec.dtype),
                 fmt::join(spec.shape, ","), begin, end);
}

}  // namespace

Result<SafetensorsPlan> plan_safetensors(std::vector<TensorSpec> tensors,
                                         const std::map<std::string, std::string>& metadata,
                                         std::uint64_t align) {
  BV_ASSERT(align >= 8 && (align & (align - 1)) == 0);
  BV_CHECK(check_names(tensors));
  for (const auto& [key, value] : metadata) {
    BV_CHECK(check_text(key, "metadata key"));
    BV_CHECK(check_text(value, "metadata value"));
  }
  std::sort(tensors.begin(), tensors.end(), [](const TensorSpec& a, const TensorSpec& b) {
    return a.dtype != b.dtype ? a.dtype > b.dtype : a.name < b.name;
  });
  SafetensorsPlan plan;
  std::string text = "{";
  if (!metadata.empty()) {
    append_metadata(text, metadata);
  }
  std::uint64_t cursor = 0;
  for (const TensorSpec& tensor : tensors) {
    BV_TRY(count, byte_count(tensor));
    plan.offsets.push_back(cursor);
    text += text.size() > 1 ? "," : "";
    // Each tensor has at most 2^60 bytes, so this sum overflows only after eight of them; no file
    // system holds one.
    if (__builtin_add_overflow(cursor, count, &cursor) || cursor > (std::uint64_t{1} << 62)) {
      return fail(Code::TensorSizeInvalid, "the tensors of one file have more than 2^62 bytes")
          .advise("write more, smaller files");
    }
    append_entry(text, tensor, plan.offsets.back(), cursor);
  }
  text += '}';
  const std::uint64_t data_begin = (kLengthWordBytes + text.size() + align - 1) / align * align;
  text.append(data_begin - kLengthWordBytes - text.size(), ' ');
  if (text.size() > kHeaderBytesMax) {
    return fail(Code::HeaderTooLarge,
                fmt::format("header length {} exceeds the 100 MB limit of the format",
                            grouped(text.size())))
        .pair(fmt::format("{} tensors in one file", grouped(tensors.size())),
              fmt::format("a header of at most {} bytes", grouped(kHeaderBytesMax)))
        .advise("write more, smaller files");
  }
  const std::uint64_t length = text.size();
  plan.header.resize(kLengthWordBytes);
  std::memcpy(plan.header.data(), &length, sizeof length);
  plan.header += text;
  for (std::uint64_t& offset : plan.offsets) {
    offset += data_begin;
  }
  plan.file_size = data_begin + cursor;
  plan.tensors = std::move(tensors);
  return plan;
}

}  // namespace bv::io
