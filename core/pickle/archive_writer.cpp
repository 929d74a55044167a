#include "core/pickle/archive_writer.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <array>

#include "core/base/arith.hpp"
#include "core/base/assert.hpp"
#include "core/pickle/crc32.hpp"
#include "core/pickle/little_endian.hpp"

namespace bv::pickle {
namespace {

constexpr std::uint64_t kZip64 = 0xffffffff;  // from here on a field of 32 bits says so alone
constexpr std::uint64_t kAlignment = 64;

std::string u16(std::uint64_t value) {
  return little_endian<std::uint16_t>(static_cast<std::int64_t>(value));
}
std::string u32(std::uint64_t value) {
  return little_endian<std::uint32_t>(static_cast<std::int64_t>(value));
}
std::string u64(std::uint64_t value) {
  return little_endian<std::uint64_t>(static_cast<std::int64_t>(value));
}
std::string capped(std::uint64_t value) {
  return u32(std::min(value, kZip64));
}

/// The extra field of a record that 32 bits cannot describe; empty for others.
std::string zip64_field(std::uint64_t size, std::uint64_t header) {
  std::string out = size >= kZip64 ? u64(size) + u64(size) : "";
  out += header >= kZip64 ? u64(header) : "";
  return out.empty() ? out : u16(1) + u16(out.size()) + out;
}

std::uint64_t flags_of(std::uint64_t size) {
  return size == 0 ? 0x0800 : 0x0808;  // UTF-8 names; sizes and checksum follow the data
}

struct TypeNames {
  DType dtype;
  std::string_view torch;
  std::string_view storage;
};
constexpr std::array kTypeNames = {TypeNames{DType::F16, "float16", "HalfStorage"},
                                   TypeNames{DType::BF16, "bfloat16", "BFloat16Storage"},
                                   TypeNames{DType::F32, "float32", "FloatStorage"},
                                   TypeNames{DType::F64, "float64", "DoubleStorage"},
                                   TypeNames{DType::U8, "uint8", "ByteStorage"}};

const TypeNames& names_of(DType dtype) {
  const auto* const found = std::find_if(kTypeNames.begin(), kTypeNames.end(),
                                         [&](const auto& one) { return one.dtype == dtype; });
  BV_ASSERT(found != kTypeNames.end());
  return *found;
}

/// What torch.save puts before the storages, and behind them.
void add_start(ArchiveWriter& out, std::string_view pickle) {
  out.add("data.pkl", pickle);
  out.add(".format_version", "1");
  out.add(".storage_alignment", "64");
  out.add("byteorder", "little");
}
void add_end(ArchiveWriter& out) {
  out.add("version", "3\n");
  out.finish();
}

}  // namespace

void ArchiveWriter::begin(std::string_view name, std::uint64_t size, std::uint32_t crc,
                          bool is_streamed) {
  const Entry& entry = entries_.emplace_back(
      Entry{folder_ + "/" + std::string(name), size, cursor(), crc, is_streamed});
  const std::string zip64 = zip64_field(size, entry.header);
  const std::uint64_t start = entry.header + 30 + entry.name.size() + zip64.size() + 4;
  const std::uint64_t pad = (kAlignment - start % kAlignment) % kAlignment;
  const std::string extra = zip64 + "FB" + u16(pad) + std::string(pad, 'Z');
  text_ += u32(0x04034b50) + u16(0) + u16(flags_of(size)) + u16(0) + u32(0) + u32(0) + u32(0) +
           u32(0) + u16(entry.name.size()) + u16(extra.size()) + entry.name + extra;
}

void ArchiveWriter::end() {
  const Entry& entry = entries_.back();
  if (entry.size == 0) {
    return;
  }
  text_ += u32(0x08074b50);
  if (entry.is_streamed) {
    checksums_.push_back(text_.size());
  }
  text_ += u32(entry.crc);
  const bool is_large = entry.size >= kZip64 || entry.header >= kZip64;
  text_ += is_large ? u64(entry.size) + u64(entry.size) : u32(entry.size) + u32(entry.size);
}

void ArchiveWriter::add(std::string_view name, std::string_view data) {
  begin(name, data.size(), crc32(std::as_bytes(std::span(data))), false);
  text_ += data;
  end();
}

void ArchiveWriter::add_streamed(std::string_view name, std::uint64_t size) {
  BV_ASSERT(!cut_);
  begin(name, size, 0, true);
  cut_ = text_.size();
  streamed_ = size;
  end();
}

void ArchiveWriter::finish() {
  const std::uint64_t directory = cursor();
  for (const Entry& entry : entries_) {
    const std::string zip64 = zip64_field(entry.size, entry.header);
    text_ += u32(0x02014b50) + u16(0) + u16(0) + u16(flags_of(entry.size)) + u16(0) + u32(0);
    if (entry.is_streamed) {
      checksums_.push_back(text_.size());
    }
    text_ += u32(entry.crc) + capped(entry.size) + capped(entry.size) + u16(entry.name.size()) +
             u16(zip64.size()) + u16(0) + u16(0) + u16(0) + u32(0) + capped(entry.header) +
             entry.name + zip64;
  }
  add_end_records(directory);
}

void ArchiveWriter::add_end_records(std::uint64_t directory) {
  const std::uint64_t size = cursor() - directory;
  const std::uint64_t end64 = cursor();
  text_ += u32(0x06064b50) + u64(44) + u16(0x031e) + u16(0x002d) + u32(0) + u32(0) +
           u64(entries_.size()) + u64(entries_.size()) + u64(size) + u64(directory);
  text_ += u32(0x07064b50) + u32(0) + u64(end64) + u32(1);
  const std::string count = u16(std::min<std::uint64_t>(entries_.size(), 0xffff));
  text_ +=
      u32(0x06054b50) + u16(0) + u16(0) + count + count + capped(size) + capped(directory) + u16(0);
}

std::string_view ArchiveWriter::head() const {
  return std::string_view(text_).substr(0, cut_.value_or(text_.size()));
}

std::string ArchiveWriter::tail(std::uint32_t crc) const {
  const std::size_t cut = cut_.value_or(text_.size());
  std::string out = text_.substr(cut);
  for (const std::size_t place : checksums_) {
    out.replace(place - cut, 4, u32(crc));
  }
  return out;
}

std::string_view torch_name(DType dtype) {
  return names_of(dtype).torch;
}

std::string_view storage_name(DType dtype) {
  return names_of(dtype).storage;
}

/// The pickle of one dense tensor, its storage under the key "0".
void add_tensor(PickleWriter& out, DType dtype, const Shape& shape) {
  const std::int64_t count = element_count(shape).value();
  Shape strides(shape.size(), 1);
  for (std::size_t i = strides.size(); i-- > 1;) {
    strides[i - 1] = strides[i] * std::max<std::int64_t>(shape[i], 1);
  }
  out.global("torch._utils", "_rebuild_tensor_v2").begin_tuple();
  out.begin_tuple().text("storage").global("torch", storage_name(dtype)).text("0").text("cpu");
  out.number(count).end_tuple().persistent();
  out.number(0).numbers(shape).numbers(strides).boolean(false);
  out.global("collections", "OrderedDict").begin_tuple().end_tuple().reduce();
  out.end_tuple().reduce();
}

ArchiveWriter tensor_archive(DType dtype, const Shape& shape) {
  PickleWriter pickle;
  add_tensor(pickle, dtype, shape);
  ArchiveWriter out("archive");
  add_start(out, std::move(pickle).finished());
  out.add_streamed("data/0",
                   static_cast<std::uint64_t>(element_count(shape).value() * bytes(dtype)));
  add_end(out);
  return out;
}

std::string object_archive(const std::string& folder, std::string_view pickle,
                           const std::vector<std::string>& storages) {
  ArchiveWriter out(folder);
  add_start(out, pickle);
  for (std::size_t i = 0; i < storages.size(); ++i) {
    out.add(fmt::format("data/{}", i), storages[i]);
  }
  add_end(out);
  return std::string(out.head());
}

}  // namespace bv::pickle
