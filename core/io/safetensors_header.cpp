// The header of a safetensors file: steps 1 to 5 of the format's validation
// (docs/reference/formats.md#validation), one pass over the text.
#include <fmt/format.h>

#include <array>
#include <cstring>
#include <limits>
#include <optional>

#include "core/base/text.hpp"
#include "core/io/checkpoint.hpp"
#include "core/io/fault_text.hpp"
#include "core/io/json_cursor.hpp"
#include "core/io/safetensors_check.hpp"
#include "core/io/safetensors_format.hpp"
#include "core/io/utf8.hpp"

namespace bv::io {
namespace {

constexpr std::uint64_t kExtentMax =
    static_cast<std::uint64_t>(std::numeric_limits<std::int64_t>::max());

/// The kinds of findings in one header; each is reported once, with its count.
enum class Oddity : std::size_t {
  LeadingSpace,
  EmptyName,
  NulInName,
  MetadataNull,
  MetadataKeyTwice,
  UnknownField,
  HugeExtent
};
constexpr std::size_t kOddities = 7;

std::string_view text_of(std::span<const std::byte> bytes) {
  const void* first = bytes.data();
  return {static_cast<const char*>(first), bytes.size()};
}

/// What a file that is not a safetensors file seems to be; empty when nothing is known.
std::string known_start(std::string_view start) {
  if (start.starts_with("version ")) {
    return "it starts like a git-lfs pointer: run git lfs pull";
  }
  if (start.starts_with("PK\x03\x04") || start.starts_with("\x80\x02")) {
    return "it starts like a pickle or zip file of torch.save: convert it with "
           "save_pretrained(safe_serialization=True)";
  }
  if (start.starts_with("<!DOCTYP") || start.starts_with("<html")) {
    return "it starts like a web page: fetch the file itself";
  }
  return {};
}

std::string help_for(std::string_view start, std::string otherwise) {
  std::string known = known_start(start);
  return known.empty() ? std::move(otherwise) : known;
}

class HeaderParser {
 public:
  HeaderParser(std::string_view text, const std::string& file)
      : text_(text), file_(file), cursor_(text) {}

  Result<SafetensorsHeader> parse(std::uint64_t file_size) {
    entries_.reserve(text_.size() / 128);
    if (!document()) {
      return error_ ? *std::move(error_) : syntax_error();
    }
    const std::uint64_t data_begin = kLengthWordBytes + text_.size();
    BV_CHECK(check_names_differ(entries_, file_));
    BV_CHECK(check_tiling(entries_, data_begin, file_size, file_));
    SafetensorsHeader header;
    header.data_begin = data_begin;
    header.metadata = std::move(metadata_);
    header.findings = findings();
    header.tensors.reserve(entries_.size());
    for (HeaderEntry& entry : entries_) {
      entry.tensor.begin += data_begin;
      entry.tensor.end += data_begin;
      header.tensors.push_back(std::move(entry.tensor));
    }
    return header;
  }

 private:
  bool document();
  bool metadata(const JsonString& key);
  bool metadata_member(const JsonString& key);
  bool entry(const JsonString& key);
  bool field(const JsonString& key, HeaderEntry& out, unsigned& seen);
  bool dtype(HeaderEntry& out);
  bool shape(HeaderEntry& out);
  bool offsets(HeaderEntry& out);

  bool refuse(Error error) {
    error_ = std::move(error);
    return false;
  }
  [[nodiscard]] std::uint64_t file_byte(std::size_t position) const {
    return kLengthWordBytes + position;
  }
  [[nodiscard]] Error syntax_error() const;
  /// Counts an oddity; `describe` is called for the first of its kind only.
  template <class Describe>
  void note(Oddity oddity, Describe&& describe) {
    const auto at = static_cast<std::size_t>(oddity);
    if (++oddity_counts_[at] == 1) {
      oddity_texts_[at] = describe();
    }
  }
  [[nodiscard]] std::vector<FormatFinding> findings() const;

  std::string_view text_;
  const std::string& file_;
  JsonCursor cursor_;
  std::vector<HeaderEntry> entries_;
  std::map<std::string, std::string> metadata_;
  std::optional<std::size_t> metadata_position_;
  std::vector<std::uint64_t> extents_;  // of the entry being read
  std::array<std::size_t, kOddities> oddity_counts_{};
  std::array<std::string, kOddities> oddity_texts_;
  std::optional<Error> error_;
};

Error HeaderParser::syntax_error() const {
  const JsonFault& fault = cursor_.fault();
  const std::size_t from = fault.position < 20 ? 0 : fault.position - 20;
  return fail(Code::HeaderNotJson,
              fmt::format("the header of {} is not valid: {}", file_, fault.what))
      .at(file_)
      .fact(fmt::format("at byte {} of the file, near {}", file_byte(fault.position),
                        in_quotes(text_.substr(from, 40))))
      .advise(
          help_for(text_, "the file is damaged or its writer is wrong: fetch or write it again"));
}

std::vector<FormatFinding> HeaderParser::findings() const {
  std::vector<FormatFinding> out;
  for (std::size_t i = 0; i < kOddities; ++i) {
    if (oddity_counts_[i] > 0) {
      const auto more = oddity_counts_[i] > 1
                            ? fmt::format(", and {} more like it", grouped(oddity_counts_[i] - 1))
                            : "";
      const bool key_twice = i == static_cast<std::size_t>(Oddity::MetadataKeyTwice);
      out.push_back(
          {file_, oddity_texts_[i] + more, key_twice ? Code::DuplicateKey : Code::HeaderNotJson});
    }
  }
  return out;
}

bool HeaderParser::document() {
  const std::size_t invalid = first_invalid_utf8(text_);
  if (invalid != std::string_view::npos) {
    return cursor_.fault_at(invalid, "bytes that are not UTF-8");
  }
  cursor_.skip_space();
  if (cursor_.position() > 0 && cursor_.next_is('{')) {
    note(Oddity::LeadingSpace,
         [] { return std::string("the header has white space before its '{'"); });
  }
  const bool read = cursor_.object([this](const JsonString& key) {
    return says(key, "__metadata__") ? metadata(key) : entry(key);
  });
  return read && cursor_.end();
}

bool HeaderParser::metadata(const JsonString& key) {
  if (metadata_position_) {
    return refuse(fail(Code::DuplicateKey,
                       fmt::format("\"__metadata__\" appears twice in the header of {}", file_))
                      .at(file_)
                      .fact(fmt::format("at byte {} and at byte {}", file_byte(*metadata_position_),
                                        file_byte(key.position)))
                      .advise("write the file again with one __metadata__"));
  }
  metadata_position_ = key.position;
  if (cursor_.next_is('n')) {
    note(Oddity::MetadataNull, [] { return std::string("__metadata__ is null"); });
    return cursor_.null();
  }
  return cursor_.object([this](const JsonString& member) { return metadata_member(member); });
}

bool HeaderParser::metadata_member(const JsonString& key) {
  JsonString value;
  if (!cursor_.string(value)) {
    return false;
  }
  const auto placed = metadata_.insert_or_assign(unescaped(key), unescaped(value));
  if (!placed.second) {
    note(Oddity::MetadataKeyTwice, [&] {
      return fmt::format(
          "key {} appears twice in __metadata__ (again at byte {}); the last one counts",
          in_quotes(placed.first->first), file_byte(key.position));
    });
  }
  return true;
}

bool HeaderParser::entry(const JsonString& key) {
  entries_.emplace_back();
  HeaderEntry& out = entries_.back();
  out.name_position = file_byte(key.position);
  std::string& name = out.tensor.spec.name;
  name = unescaped(key);
  if (name.empty()) {
    note(Oddity::EmptyName, [] { return std::string("a tensor has the empty name"); });
  }
  if (key.has_escape && name.find('\0') != std::string::npos) {
    note(Oddity::NulInName,
         [&] { return "a NUL character is in the name of tensor " + in_quotes(name); });
  }
  constexpr std::array<std::string_view, 3> kFields = {"dtype", "shape", "data_offsets"};
  unsigned seen = 0;
  if (!cursor_.object([&](const JsonString& member) { return field(member, out, seen); })) {
    return false;
  }
  for (std::size_t i = 0; i < kFields.size(); ++i) {
    if ((seen & (1u << i)) == 0) {
      return cursor_.fault_at(key.position,
                              fmt::format("tensor {} has no {}", in_quotes(name), kFields[i]));
    }
  }
  // The order of the fields is free, so the size waits until both dtype and shape are known.
  out.size = tensor_bits(out.tensor.spec.dtype, extents_);
  return true;
}

bool HeaderParser::field(const JsonString& key, HeaderEntry& out, unsigned& seen) {
  const unsigned bit = says(key, "dtype")          ? 1u
                       : says(key, "shape")        ? 2u
                       : says(key, "data_offsets") ? 4u
                                                   : 0u;
  if ((seen & bit) != 0) {
    return refuse(fail(Code::DuplicateKey,
                       fmt::format("field {} appears twice in tensor {} in the header of {}",
                                   in_quotes(key.raw), in_quotes(out.tensor.spec.name), file_))
                      .at(file_)
                      .fact(fmt::format("again at byte {}", file_byte(key.position)))
                      .advise("readers disagree on which one counts: write the file again"));
  }
  seen |= bit;
  switch (bit) {
    case 1:
      return dtype(out);
    case 2:
      return shape(out);
    case 4:
      return offsets(out);
    default:
      break;
  }
  note(Oddity::UnknownField, [&] {
    return fmt::format("tensor {} has the unknown field {}", in_quotes(out.tensor.spec.name),
                       in_quotes(key.raw));
  });
  return cursor_.skip_value();
}

bool HeaderParser::dtype(HeaderEntry& out) {
  JsonString text;
  if (!cursor_.string(text)) {
    return false;
  }
  const std::string decoded = text.has_escape ? unescaped(text) : std::string();
  const std::string_view wanted = text.has_escape ? std::string_view(decoded) : text.raw;
  const auto found = dtype_from_name(wanted);
  if (found) {
    out.tensor.spec.dtype = *found;
    return true;
  }
  std::string upper(wanted.substr(0, 16));
  for (char& c : upper) {
    c = c >= 'a' && c <= 'z' ? static_cast<char>(c - 'a' + 'A') : c;
  }
  const bool case_only = dtype_from_name(upper).has_value();
  return refuse(
      fail(Code::DtypeUnknown,
           fmt::format("tensor {} of {} has the unknown dtype {}", in_quotes(out.tensor.spec.name),
                       file_, in_quotes(wanted)))
          .at(file_)
          .fact(fmt::format("at byte {} of the file", file_byte(text.position)))
          .advise(
              case_only
                  ? "dtype names are upper case: write " + upper
                  : "this reader knows BOOL F4 F6_E2M3 F6_E3M2 U8 I8 F8_* I16 U16 F16 BF16 I32 U32 "
                    "F32 "
                    "C64 F64 I64 U64: update bridge-verify or write the tensor as one of them"));
}

bool HeaderParser::shape(HeaderEntry& out) {
  extents_.clear();
  Shape& shape = out.tensor.spec.shape;
  const bool read = cursor_.array([&] {
    std::uint64_t extent = 0;
    if (!cursor_.unsigned_integer(extent)) {
      return false;
    }
    if (extent > kExtentMax) {
      note(Oddity::HugeExtent, [&] {
        return fmt::format("tensor {} has a dimension of {}, shown as {}",
                           in_quotes(out.tensor.spec.name), grouped(extent), grouped(kExtentMax));
      });
    }
    extents_.push_back(extent);
    return true;
  });
  shape.reserve(extents_.size());
  for (const std::uint64_t extent : extents_) {
    shape.push_back(static_cast<std::int64_t>(std::min(extent, kExtentMax)));
  }
  return read;
}

bool HeaderParser::offsets(HeaderEntry& out) {
  const bool begin_read = cursor_.expect('[') && cursor_.unsigned_integer(out.tensor.begin);
  return begin_read && cursor_.expect(',') && cursor_.unsigned_integer(out.tensor.end) &&
         cursor_.expect(']');
}

}  // namespace

Result<std::uint64_t> safetensors_data_begin(std::span<const std::byte> file_start,
                                             std::uint64_t file_size, const std::string& file) {
  if (file_start.size() < kLengthWordBytes) {
    return fail(Code::HeaderTruncated, fmt::format("{} is too short for a safetensors file", file))
        .at(file)
        .pair(counted(file_size, "byte"), "at least 8 bytes for the length of the header")
        .advise("the download was cut: delete and fetch it again");
  }
  std::uint64_t length = 0;
  std::memcpy(&length, file_start.data(), sizeof length);
  if (length > kHeaderBytesMax) {
    return fail(Code::HeaderTruncated,
                fmt::format("header length {} exceeds the 100 MB limit of the format",
                            grouped(length)))
        .at(file)
        .pair(fmt::format("a length word of {} bytes in a file of {} bytes", grouped(length),
                          grouped(file_size)),
              fmt::format("at most {} bytes", grouped(kHeaderBytesMax)))
        .advise(help_for(text_of(file_start),
                         "this is not a safetensors file, or it is damaged: fetch it again"));
  }
  if (length > file_size - kLengthWordBytes) {
    return fail(Code::HeaderTruncated, fmt::format("{} ends inside its header", file))
        .at(file)
        .fact(fmt::format("length word says {} bytes, {} are there (file {} bytes)",
                          grouped(length), grouped(file_size - kLengthWordBytes),
                          grouped(file_size)))
        .pair(fmt::format("{} bytes of header", grouped(file_size - kLengthWordBytes)),
              counted(length, "byte"))
        .advise(help_for(text_of(file_start), "the download was cut: delete and fetch it again"));
  }
  return kLengthWordBytes + length;
}

Result<SafetensorsHeader> parse_safetensors_header(std::span<const std::byte> file_start,
                                                   std::uint64_t file_size,
                                                   const std::string& file) {
  BV_TRY(data_begin, safetensors_data_begin(file_start, file_size, file));
  if (file_start.size() < data_begin) {
    return fail(Code::HeaderTruncated,
                fmt::format("{} got shorter while its header was read", file))
        .at(file)
        .pair(counted(file_start.size(), "byte"), counted(data_begin, "byte"))
        .advise("stop the program that writes the file, then repeat");
  }
  const std::string_view text =
      text_of(file_start.subspan(kLengthWordBytes, data_begin - kLengthWordBytes));
  if (text.empty()) {
    return fail(Code::HeaderNotJson, fmt::format("the header of {} is empty", file))
        .at(file)
        .pair("a length word of 0", "a JSON object, at least {}")
        .advise("the file is damaged or its writer is wrong: fetch or write it again");
  }
  return HeaderParser(text, file).parse(file_size);
}

}  // namespace bv::io
