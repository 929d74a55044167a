#include "core/io/headers_dump.hpp"

#include <fmt/format.h>

#include <iterator>
#include <limits>
#include <optional>
#include <set>

#include "core/base/json_mistake.hpp"
#include "core/base/text.hpp"
#include "core/io/fault_text.hpp"
#include "core/io/gzip.hpp"
#include "core/io/json_cursor.hpp"
#include "core/io/json_text.hpp"
#include "core/io/named_output.hpp"
#include "core/io/safetensors_check.hpp"
#include "core/io/utf8.hpp"
#include "core/io/writer.hpp"

namespace bv::io {
namespace {

namespace fs = std::filesystem;

/// Where the tensors of a dump go. Their names may come in any order, and mostly come in byte
/// order.
class Tensors {
 public:
  virtual ~Tensors() = default;
  /// The tensor of a new name, nullptr when it is there already.
  virtual TensorSpec* add(const std::string& name) = 0;
  /// Where the tensor that was added last lies.
  virtual void place(const JsonString& shard, std::uint64_t begin, std::uint64_t end) = 0;
};

class WithPlaces : public Tensors {
 public:
  explicit WithPlaces(HeadersDump& out) : tensors_(out.tensors) {}
  TensorSpec* add(const std::string& name) override {
    const std::size_t before = tensors_.size();
    last_ = &tensors_.try_emplace(tensors_.end(), name)->second;
    return tensors_.size() == before ? nullptr : &last_->spec;
  }
  void place(const JsonString& shard, std::uint64_t begin, std::uint64_t end) override {
    last_->shard = unescaped(shard);
    last_->begin = begin;
    last_->end = end;
  }

 private:
  std::map<std::string, DumpedTensor, std::less<>>& tensors_;
  DumpedTensor* last_ = nullptr;
};

class SpecsAlone : public Tensors {
 public:
  explicit SpecsAlone(DumpedModel& out) : headers_(out.headers) {}
  TensorSpec* add(const std::string& name) override {
    const std::size_t before = headers_.size();
    TensorSpec& spec = headers_.try_emplace(headers_.end(), name)->second;
    return headers_.size() == before ? nullptr : &spec;
  }
  void place(const JsonString&, std::uint64_t, std::uint64_t) override {}

 private:
  Headers& headers_;
};

class DumpParser {
 public:
  /// Fills `config` and `tensors`.
  DumpParser(std::string_view text, const std::string& file, std::string& config, Tensors& tensors)
      : text_(text), file_(file), cursor_(text), config_(config), tensors_(tensors) {}

  Status parse() {
    const std::size_t invalid = first_invalid_utf8(text_);
    const bool read =
        invalid == std::string_view::npos
            ? cursor_.object([this](const JsonString& key) { return member(key); }) && cursor_.end()
            : cursor_.fault_at(invalid, "bytes that are not UTF-8");
    if (!read) {
      return error_ ? *std::move(error_) : syntax_error();
    }
    for (const char* key : {"schema", "config", "tensors"}) {
      if (!seen_.contains(key)) {
        return fail(Code::DumpInvalid, fmt::format("{} has no \"{}\"", file_, key))
            .at(file_)
            .pair(join_seen(), "schema, config and tensors")
            .advise(
                "make the headers dump again: bridge-verify inspect --model DIR --dump-headers "
                "FILE");
      }
    }
    return Done{};
  }

 private:
  bool member(const JsonString& key) {
    const std::string name = unescaped(key);
    if (!seen_.insert(name).second) {
      return twice(name, key.position);
    }
    if (name == "schema") {
      return schema();
    }
    if (name == "config") {
      std::string_view raw;
      cursor_.allow_constants(true);
      const bool read = cursor_.next_is('{') ? cursor_.skip_value(&raw) : cursor_.expect('{');
      cursor_.allow_constants(false);
      config_ = std::string(raw);
      return read;
    }
    if (name == "tensors") {
      return cursor_.object([this](const JsonString& tensor) { return entry(tensor); });
    }
    return cursor_.skip_value();
  }

  bool schema() {
    JsonString value;
    if (!cursor_.string(value)) {
      return false;
    }
    if (says(value, kHeadersDumpSchema)) {
      return true;
    }
    return refuse(
        fail(Code::DumpInvalid, fmt::format("{} has the schema {}", file_, in_quotes(value.raw)))
            .at(place(value.position))
            .pair(in_quotes(value.raw), in_quotes(kHeadersDumpSchema))
            .advise("make the headers dump again with this version"));
  }

  bool entry(const JsonString& key) {
    if (key.has_escape) {
      name_ = unescaped(key);
    } else {
      name_.assign(key.raw);
    }
    TensorSpec* const spec = tensors_.add(name_);
    if (spec == nullptr) {
      return twice(name_, key.position);
    }
    spec->name = name_;
    JsonString dtype;
    JsonString shard;
    std::uint64_t begin = 0;
    std::uint64_t end = 0;
    const bool read = cursor_.expect('[') && cursor_.string(dtype) && cursor_.expect(',') &&
                      shape() && cursor_.expect(',') && cursor_.string(shard) &&
                      cursor_.expect(',') && cursor_.unsigned_integer(begin) &&
                      cursor_.expect(',') && cursor_.unsigned_integer(end) && cursor_.expect(']');
    if (!read) {
      return false;
    }
    spec->shape.assign(extents_.begin(), extents_.end());
    tensors_.place(shard, begin, end);
    const auto known = dtype_from_name(unescaped(dtype));
    if (!known) {
      return refuse(fail(Code::DtypeUnknown, fmt::format("tensor {} has the unknown dtype {}",
                                                         in_quotes(name_), in_quotes(dtype.raw)))
                        .at(place(dtype.position))
                        .advise("write the name as safetensors has it, for example BF16"));
    }
    spec->dtype = *known;
    return size_fits(*spec, begin, end, key.position);
  }

  /// Fills `extents_`.
  bool shape() {
    extents_.clear();
    return cursor_.array([&] {
      std::uint64_t extent = 0;
      const std::size_t at = cursor_.position();
      if (!cursor_.unsigned_integer(extent)) {
        return false;
      }
      if (extent > static_cast<std::uint64_t>(std::numeric_limits<std::int64_t>::max())) {
        return cursor_.fault_at(at, "a dimension above 2^63-1");
      }
      extents_.push_back(extent);
      return true;
    });
  }

  bool size_fits(const TensorSpec& spec, std::uint64_t begin, std::uint64_t end,
                 std::size_t position) {
    const TensorBits size = tensor_bits(spec.dtype, extents_);
    const bool fits =
        !size.overflows && size.bits % 8 == 0 && begin <= end && end - begin == size.bits / 8;
    if (fits) {
      return true;
    }
    return refuse(fail(Code::TensorSizeInvalid,
                       fmt::format("tensor {} has a shape that does not fit its offsets",
                                   in_quotes(spec.name)))
                      .at(place(position))
                      .pair(fmt::format("[{}, {}]", begin, end),
                            size.overflows ? "a size below 2^64 bits" : counted(size.bits, "bit"))
                      .advise("make the headers dump again"));
  }

  bool twice(std::string_view name, std::size_t position) {
    return refuse(
        fail(Code::DuplicateKey, fmt::format("{} appears twice in {}", in_quotes(name), file_))
            .at(place(position))
            .advise("make the headers dump again"));
  }

  bool refuse(Error error) {
    error_ = std::move(error);
    return false;
  }

  std::string place(std::size_t position) const {
    const LineColumn at = line_column(text_, position);
    return fmt::format("{}:{}:{}", file_, at.line, at.column);
  }

  std::string join_seen() const {
    std::string out;
    for (const std::string& key : seen_) {
      out += (out.empty() ? "" : ", ") + in_quotes(key);
      if (out.size() > 400) {
        break;
      }
    }
    return out.empty() ? "an empty object" : out;
  }

  Error syntax_error() const {
    JsonMistake mistake = json_mistake(text_, cursor_.fault().position, cursor_.fault().what);
    Error error =
        fail(Code::DumpInvalid, fmt::format("{} is not a headers dump: line {}, column {}: {}",
                                            file_, mistake.line, mistake.column, mistake.what))
            .at(mistake.place(file_))
            .advise(
                "make the headers dump again: bridge-verify inspect --model DIR --dump-headers "
                "FILE");
    error.facts = std::move(mistake.facts);
    return error;
  }

  std::string_view text_;
  const std::string& file_;
  JsonCursor cursor_;
  std::string& config_;
  Tensors& tensors_;
  std::set<std::string> seen_;
  std::string name_;                    // of the entry being read
  std::vector<std::uint64_t> extents_;  // of the entry being read
  std::optional<Error> error_;
};

}  // namespace

Headers HeadersDump::headers() const {
  Headers out;
  for (const auto& [name, tensor] : tensors) {
    out.emplace_hint(out.end(), name, tensor.spec);
  }
  return out;
}

std::uint64_t HeadersDump::total_bytes() const {
  std::uint64_t total = 0;
  for (const auto& [name, tensor] : tensors) {
    total += tensor.end - tensor.begin;
  }
  return total;
}

namespace {

/// The text of a dump, plain or gzipped.
Result<std::string> dump_text(const fs::path& path) {
  BV_TRY(bytes, read_file(path, kDumpBytesMax));
  if (!is_gzip(bytes)) {
    return std::move(bytes);
  }
  return gunzip(bytes, kDumpBytesMax, printable_path(path));
}

}  // namespace

Result<HeadersDump> parse_headers_dump(std::string_view text, const std::string& file) {
  HeadersDump out;
  WithPlaces tensors(out);
  BV_CHECK(DumpParser(text, file, out.config, tensors).parse());
  return out;
}

Result<HeadersDump> read_headers_dump(const fs::path& path) {
  BV_TRY(text, dump_text(path));
  return parse_headers_dump(text, printable_path(path));
}

Result<DumpedModel> read_dumped_model(const fs::path& path) {
  BV_TRY(text, dump_text(path));
  DumpedModel out;
  SpecsAlone tensors(out);
  BV_CHECK(DumpParser(text, printable_path(path), out.config, tensors).parse());
  return out;
}

std::string headers_dump_text(const HeadersDump& dump) {
  std::string out = "{\"schema\":\"" + std::string(kHeadersDumpSchema) +
                    "\",\n\"config\":" + dump.config + ",\n\"tensors\":{";
  const char* separator = "\n";
  for (const auto& [name, tensor] : dump.tensors) {
    out += separator;
    separator = ",\n";
    append_json_string(out, name);
    fmt::format_to(std::back_inserter(out), ":[\"{}\",[{}],", bv::name(tensor.spec.dtype),
                   fmt::join(tensor.spec.shape, ","));
    append_json_string(out, tensor.shard);
    fmt::format_to(std::back_inserter(out), ",{},{}]", tensor.begin, tensor.end);
  }
  return out + "\n}}\n";
}

Status write_headers_dump(const fs::path& path, const HeadersDump& dump) {
  const std::string text = headers_dump_text(dump);
  if (path.extension() != ".gz") {
    return write_named(path, text);
  }
  BV_TRY(packed, gzip(text));
  return write_named(path, packed);
}

namespace {

/// The name of a file as JSON can hold it: one that is not UTF-8 is escaped, for people to read.
std::string valid_text(const std::string& name) {
  return first_invalid_utf8(name) == std::string_view::npos ? name : escaped(name);
}

}  // namespace

Result<HeadersDump> dump_of(const Checkpoint& checkpoint, std::string_view config) {
  HeadersDump dump;
  JsonCursor cursor(config);
  cursor.allow_constants(true);
  std::string_view raw;
  const bool is_text = first_invalid_utf8(config) == std::string_view::npos;
  if (!is_text || !cursor.next_is('{') || !cursor.skip_value(&raw) || !cursor.end()) {
    return fail(Code::DumpInvalid, fmt::format("config.json is not a JSON object: {}",
                                               is_text ? cursor.fault().what : "not UTF-8"))
        .advise("correct config.json");
  }
  dump.config = std::string(raw);
  for (const auto& [name, tensor] : checkpoint.tensors()) {
    const std::uint64_t data_begin = checkpoint.data_begin(tensor.file);
    dump.tensors.emplace_hint(
        dump.tensors.end(), name,
        DumpedTensor{tensor.spec, valid_text(checkpoint.files()[tensor.file].filename().string()),
                     tensor.begin - data_begin, tensor.end - data_begin});
  }
  return dump;
}

}  // namespace bv::io
