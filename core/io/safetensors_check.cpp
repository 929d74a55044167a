#include "core/io/safetensors_check.hpp"

#define XXH_INLINE_ALL
#include <fmt/format.h>
#include <xxhash.h>

#include <algorithm>
#include <bit>
#include <tuple>

#include "core/base/text.hpp"
#include "core/io/fault_text.hpp"

namespace bv::io {
namespace {

bool in_offset_order(const HeaderEntry& a, const HeaderEntry& b) {
  return std::tie(a.tensor.begin, a.tensor.end) < std::tie(b.tensor.begin, b.tensor.end);
}

/// Bytes as the file has them, so that a hex viewer finds them.
std::string file_bytes(std::uint64_t data_begin, std::uint64_t begin, std::uint64_t end) {
  const auto last = end > begin ? end - 1 : begin;
  std::uint64_t from = 0;
  std::uint64_t to = 0;
  if (__builtin_add_overflow(data_begin, begin, &from) ||
      __builtin_add_overflow(data_begin, last, &to)) {
    return "beyond 2^64";
  }
  return fmt::format("{}..{} of the file", from, to);
}

Error misplaced(std::span<const HeaderEntry> entries, std::size_t i, std::uint64_t cursor,
                std::uint64_t data_begin, const std::string& file) {
  const StoredTensor& tensor = entries[i].tensor;
  const std::string help = "the file is damaged or its writer is wrong: fetch or write it again";
  if (tensor.begin > cursor) {
    return fail(Code::OffsetsInvalid,
                fmt::format("{} bytes of {} belong to no tensor, before {}",
                            grouped(tensor.begin - cursor), file, in_quotes(tensor.spec.name)))
        .at(file)
        .fact("bytes " + file_bytes(data_begin, cursor, tensor.begin))
        .pair(fmt::format("data_offsets [{}, {}]", tensor.begin, tensor.end),
              fmt::format("a begin of {}", cursor))
        .advise(help);
  }
  const StoredTensor& earlier = entries[i - 1].tensor;
  const std::uint64_t shared_end = std::max(tensor.begin, std::min(cursor, tensor.end));
  return fail(Code::OffsetsInvalid,
              tensor.end > tensor.begin
                  ? fmt::format("tensors {} and {} share bytes {}..{} of the data of {}",
                                in_quotes(earlier.spec.name), in_quotes(tensor.spec.name),
                                tensor.begin, shared_end - 1, file)
                  : fmt::format("tensor {} without bytes lies inside tensor {} of {}",
                                in_quotes(tensor.spec.name), in_quotes(earlier.spec.name), file))
      .at(file)
      .fact("bytes " + file_bytes(data_begin, tensor.begin, shared_end))
      .pair(fmt::format("data_offsets [{}, {}]", tensor.begin, tensor.end),
            fmt::format("a begin of {}", cursor))
      .advise(help);
}

Error size_fault(const HeaderEntry& entry, const std::string& file, const std::string& why,
                 std::string wanted) {
  const StoredTensor& tensor = entry.tensor;
  return fail(Code::TensorSizeInvalid,
              fmt::format("tensor {} of {} {}", in_quotes(tensor.spec.name), file, why))
      .at(file)
      .pair(fmt::format("data_offsets [{}, {}], {} bytes", tensor.begin, tensor.end,
                        grouped(tensor.end - tensor.begin)),
            std::move(wanted))
      .advise("the file is damaged or its writer is wrong: fetch or write it again");
}

bool size_fits(const HeaderEntry& entry) {
  return !entry.size.overflows && entry.size.bits % 8 == 0 &&
         entry.tensor.end - entry.tensor.begin == entry.size.bits / 8;
}

Error misfit(const HeaderEntry& entry, const std::string& file) {
  constexpr std::size_t kExtentsShown = 16;
  const TensorSpec& spec = entry.tensor.spec;
  const std::string what = fmt::format(
      "{}{}", name(spec.dtype),
      shape_text(std::span(spec.shape).first(std::min(spec.shape.size(), kExtentsShown))));
  if (entry.size.overflows) {
    return size_fault(entry, file, fmt::format("has shape {}, whose size exceeds 64 bits", what),
                      "a size below 2^64 bits");
  }
  if (entry.size.bits % 8 != 0) {
    return size_fault(entry, file,
                      fmt::format("has shape {}, {} bits", what, grouped(entry.size.bits)),
                      "a whole number of bytes");
  }
  return size_fault(entry, file, fmt::format("has shape {}, which does not fit its offsets", what),
                    counted(entry.size.bits / 8, "byte"));
}

Error file_end_fault(std::uint64_t wanted, std::uint64_t data_begin, std::uint64_t file_size,
                     const std::string& file) {
  const std::uint64_t there = file_size - data_begin;
  Error error =
      there < wanted
          ? fail(Code::HeaderTruncated,
                 fmt::format(
                     "{} ends inside its data, {} missing", file,
                     wanted - there == 1 ? "1 byte is" : counted(wanted - there, "byte") + " are"))
                .advise("the download was cut: delete and fetch it again")
          : fail(Code::HeaderTruncated, fmt::format("{} has {} after its last tensor", file,
                                                    counted(there - wanted, "byte")))
                .advise("the file is damaged or two files were joined: fetch or write it again");
  return std::move(error).at(file).pair(
      fmt::format("{} bytes of data (file {} bytes)", grouped(there), grouped(file_size)),
      fmt::format("{} bytes of data", grouped(wanted)));
}

Error duplicate(const HeaderEntry& first, const HeaderEntry& second, const std::string& file) {
  const auto [low, high] = std::minmax(first.name_position, second.name_position);
  return fail(Code::DuplicateKey, fmt::format("tensor {} appears twice in the header of {}",
                                              in_quotes(first.tensor.spec.name), file))
      .at(file)
      .fact(fmt::format("at byte {} and at byte {}", low, high))
      .advise("readers disagree on which one counts: write the file again with each name once");
}

Status check_names_by_sorting(std::span<const HeaderEntry> entries, const std::string& file) {
  std::vector<const HeaderEntry*> sorted;
  sorted.reserve(entries.size());
  for (const HeaderEntry& entry : entries) {
    sorted.push_back(&entry);
  }
  const auto name_of = [](const HeaderEntry* entry) -> const std::string& {
    return entry->tensor.spec.name;
  };
  std::sort(sorted.begin(), sorted.end(),
            [&](auto* a, auto* b) { return name_of(a) < name_of(b); });
  for (std::size_t i = 1; i < sorted.size(); ++i) {
    if (name_of(sorted[i - 1]) == name_of(sorted[i])) {
      return duplicate(*sorted[i - 1], *sorted[i], file);
    }
  }
  return Done{};
}

}  // namespace

TensorBits tensor_bits(DType dtype, std::span<const std::uint64_t> shape) {
  TensorBits out;
  std::uint64_t elements = 1;
  for (const std::uint64_t extent : shape) {
    out.overflows = out.overflows || __builtin_mul_overflow(elements, extent, &elements);
  }
  out.overflows =
      out.overflows ||
      __builtin_mul_overflow(elements, static_cast<std::uint64_t>(bits(dtype)), &out.bits);
  return out;
}

Status check_names_differ(std::span<const HeaderEntry> entries, const std::string& file) {
  // Open addressing; a slot holds half of the name's hash and the entry's number. Names made to
  // collide exhaust the budget of probes and are sorted instead.
  struct Slot {
    std::uint32_t number = 0;
    std::uint32_t tag = 0;
  };
  std::vector<Slot> slots(std::bit_ceil(entries.size() * 2 + 1));
  const std::size_t mask = slots.size() - 1;
  std::size_t probes_left = entries.size() * 16 + 64;
  for (std::size_t i = 0; i < entries.size(); ++i) {
    const std::string& name = entries[i].tensor.spec.name;
    const std::uint64_t hash = XXH3_64bits(name.data(), name.size());
    const auto tag = static_cast<std::uint32_t>(hash >> 32);
    std::size_t at = hash & mask;
    for (; slots[at].number != 0; at = (at + 1) & mask) {
      const HeaderEntry& other = entries[slots[at].number - 1];
      if (slots[at].tag == tag && other.tensor.spec.name == name) {
        return duplicate(other, entries[i], file);
      }
      if (--probes_left == 0) {
        return check_names_by_sorting(entries, file);
      }
    }
    slots[at] = {static_cast<std::uint32_t>(i + 1), tag};
  }
  return Done{};
}

Status check_tiling(std::vector<HeaderEntry>& entries, std::uint64_t data_begin,
                    std::uint64_t file_size, const std::string& file) {
  if (!std::is_sorted(entries.begin(), entries.end(), in_offset_order)) {
    std::stable_sort(entries.begin(), entries.end(), in_offset_order);
  }
  std::uint64_t cursor = 0;
  for (std::size_t i = 0; i < entries.size(); ++i) {
    const StoredTensor& tensor = entries[i].tensor;
    if (tensor.end < tensor.begin) {
      return fail(Code::OffsetsInvalid, fmt::format("tensor {} of {} ends before it begins",
                                                    in_quotes(tensor.spec.name), file))
          .at(file)
          .pair(fmt::format("data_offsets [{}, {}]", tensor.begin, tensor.end),
                "an end not below the begin")
          .advise("the file is damaged or its writer is wrong: fetch or write it again");
    }
    if (tensor.begin != cursor) {
      return misplaced(entries, i, cursor, data_begin, file);
    }
    if (!size_fits(entries[i])) {
      return misfit(entries[i], file);
    }
    cursor = tensor.end;
  }
  if (cursor != file_size - data_begin) {
    return file_end_fault(cursor, data_begin, file_size, file);
  }
  return Done{};
}

}  // namespace bv::io
