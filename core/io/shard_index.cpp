#include "core/io/shard_index.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <cerrno>
#include <charconv>
#include <climits>
#include <cstdlib>
#include <map>
#include <memory>
#include <set>
#include <unordered_map>

#include "core/base/json_mistake.hpp"
#include "core/base/text.hpp"
#include "core/io/fault_text.hpp"
#include "core/io/json_cursor.hpp"
#include "core/io/utf8.hpp"

namespace bv::io {
namespace {

namespace fs = std::filesystem;

constexpr std::string_view kSuffix = ".safetensors";
constexpr std::string_view kTorchSuffix = ".bin";
constexpr std::uint64_t kNumberedShardsMax = 100'000;

class IndexParser {
 public:
  IndexParser(std::string_view text, const std::string& file)
      : text_(text), file_(file), cursor_(text) {}

  Result<ShardIndex> parse() {
    const std::size_t invalid = first_invalid_utf8(text_);
    const bool read = invalid == std::string_view::npos
                          ? document()
                          : cursor_.fault_at(invalid, "bytes that are not UTF-8");
    if (!read) {
      return error_ ? *std::move(error_) : syntax_error();
    }
    if (!weight_map_position_) {
      return fail(Code::IndexInvalid, fmt::format("{} has no weight_map", file_))
          .at(file_)
          .advise("the file is not an index of shards: fetch it again");
    }
    return finished();
  }

 private:
  bool document() {
    return cursor_.object([this](const JsonString& key) { return member(key); }) && cursor_.end();
  }

  bool member(const JsonString& key) {
    if (says(key, "weight_map")) {
      if (weight_map_position_) {
        return twice("weight_map", *weight_map_position_, key.position);
      }
      weight_map_position_ = key.position;
      return cursor_.object([this](const JsonString& tensor) { return placement(tensor); });
    }
    if (says(key, "metadata") && cursor_.next_is('{')) {
      return cursor_.object([this](const JsonString& field) { return metadata(field); });
    }
    return cursor_.skip_value();
  }

  bool metadata(const JsonString& key) {
    const bool is_number = !cursor_.next_is('"') && !cursor_.next_is('{') &&
                           !cursor_.next_is('[') && !cursor_.next_is('n');
    if (!says(key, "total_size") || !is_number) {
      return cursor_.skip_value();
    }
    double size = 0;
    if (!cursor_.number(size)) {
      return false;
    }
    index_.total_size = size;
    return true;
  }

  bool placement(const JsonString& tensor) {
    JsonString shard;
    if (!cursor_.string(shard)) {
      return false;
    }
    const auto [known, added] = shard_numbers_.try_emplace(std::string(shard.raw), 0);
    if (added) {
      auto checked = checked_shard_name(unescaped(shard), file_);
      if (!checked) {
        error_ = std::move(checked).error();
        return false;
      }
      // Two spellings of one name are one shard.
      known->second =
          canonical_numbers_.try_emplace(*checked, canonical_numbers_.size()).first->second;
    }
    index_.tensors.push_back({unescaped(tensor), known->second});
    positions_.push_back(tensor.position);
    return true;
  }

  bool twice(std::string_view key, std::size_t first, std::size_t second) {
    const LineColumn a = line_column(text_, first);
    const LineColumn b = line_column(text_, second);
    error_ = fail(Code::DuplicateKey, fmt::format("{} appears twice in {}", in_quotes(key), file_))
                 .at(fmt::format("{}:{}:{}", file_, b.line, b.column))
                 .fact(fmt::format("at line {}, column {} and at line {}, column {}", a.line,
                                   a.column, b.line, b.column))
                 .advise("readers disagree on which one counts: write the index again");
    return false;
  }

  Error syntax_error() const {
    const JsonFault& fault = cursor_.fault();
    JsonMistake mistake = json_mistake(text_, fault.position, fault.what);
    Error error =
        fail(Code::IndexInvalid, fmt::format("{} is not valid: line {}, column {}: {}", file_,
                                             mistake.line, mistake.column, mistake.what))
            .at(mistake.place(file_))
            .advise("the file is damaged: fetch or write it again");
    error.facts = std::move(mistake.facts);
    return error;
  }

  /// Sorts tensors and shards by name, and finds a tensor that is mapped twice.
  Result<ShardIndex> finished() {
    std::vector<std::size_t> order(index_.tensors.size());
    for (std::size_t i = 0; i < order.size(); ++i) {
      order[i] = i;
    }
    std::sort(order.begin(), order.end(), [&](std::size_t a, std::size_t b) {
      return std::tie(index_.tensors[a].name, a) < std::tie(index_.tensors[b].name, b);
    });
    std::vector<std::size_t> shard_place(canonical_numbers_.size());
    for (const auto& [name, number] : canonical_numbers_) {
      shard_place[number] = index_.shards.size();
      index_.shards.push_back(name);
    }
    std::vector<IndexedTensor> sorted;
    sorted.reserve(order.size());
    for (std::size_t i = 0; i < order.size(); ++i) {
      IndexedTensor& tensor = index_.tensors[order[i]];
      if (!sorted.empty() && sorted.back().name == tensor.name) {
        twice(tensor.name, positions_[order[i - 1]], positions_[order[i]]);
        return *std::move(error_);
      }
      sorted.push_back({std::move(tensor.name), shard_place[tensor.shard]});
    }
    index_.tensors = std::move(sorted);
    return std::move(index_);
  }

  std::string_view text_;
  const std::string& file_;
  JsonCursor cursor_;
  ShardIndex index_;
  std::vector<std::size_t> positions_;
  std::unordered_map<std::string, std::size_t> shard_numbers_;  // as spelled
  std::map<std::string, std::size_t> canonical_numbers_;        // as checked
  std::optional<std::size_t> weight_map_position_;
  std::optional<Error> error_;
};

/// Why a name may not be followed; empty when it may.
std::string_view name_fault(std::string_view name, bool torch) {
  if (name.find('\0') != std::string_view::npos) {
    return "holds a NUL character";
  }
  if (name.find('\\') != std::string_view::npos) {
    return "holds a backslash";
  }
  if (name.starts_with('/')) {
    return "is an absolute path";
  }
  if (name.size() >= 2 && name[1] == ':') {
    return "starts with a drive letter";
  }
  if (name.size() >= PATH_MAX) {
    return "is longer than a path may be";
  }
  if (torch) {
    return name.ends_with(kTorchSuffix) ? "" : "does not end in .bin";
  }
  return name.ends_with(kSuffix) ? "" : "does not end in .safetensors";
}

std::optional<std::uint64_t> whole_number(std::string_view text) {
  std::uint64_t value = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
  return error == std::errc{} && end == text.data() + text.size() ? std::optional(value)
                                                                  : std::nullopt;
}

}  // namespace

Result<ShardIndex> parse_shard_index(std::string_view text, const std::string& file) {
  return IndexParser(text, file).parse();
}

Result<std::string> checked_shard_name(std::string_view name, const std::string& named_in) {
  const bool torch = named_in.ends_with(".bin.index.json");
  std::string_view fault = name_fault(name, torch);
  std::string out;
  for (std::size_t at = 0; at <= name.size() && fault.empty();) {
    const std::size_t end = std::min(name.find('/', at), name.size());
    const std::string_view component = name.substr(at, end - at);
    fault = component == ".." ? "leads out of the folder by '..'" : fault;
    if (!component.empty() && component != ".") {
      out += (out.empty() ? "" : "/") + std::string(component);
    }
    at = end + 1;
  }
  fault = fault.empty() ? name_fault(out, torch) : fault;  // "./c:x" hides what its rest would show
  if (!fault.empty()) {
    return fail(Code::UnsafePath,
                fmt::format("{} names the shard {}, which {}", named_in, in_quotes(name), fault))
        .at(named_in)
        .advise(
            "a shard is a .safetensors file in the folder of its index: correct the index or fetch "
            "it again");
  }
  return out;
}

namespace {

/// ".../models--ORG--NAME" of a folder below its "snapshots"; empty elsewhere.
fs::path cache_entry_of(const fs::path& folder) {
  for (fs::path at = folder; at.has_relative_path(); at = at.parent_path()) {
    const fs::path owner = at.parent_path().parent_path();
    if (at.parent_path().filename() == "snapshots" &&
        owner.filename().string().starts_with("models--")) {
      return owner;
    }
  }
  return {};
}

}  // namespace

Result<fs::path> link_boundary(const fs::path& folder) {
  std::error_code error;
  const fs::path real = fs::canonical(folder, error);
  if (error) {
    return system_fault(error.value(), "following links of", folder, Code::ReadFailed)
        .at(printable_path(folder));
  }
  // By the name first: a snapshot that is a link out of its cache entry does not move the boundary.
  const fs::path named = fs::absolute(folder, error).lexically_normal();
  for (const fs::path& place : {error ? real : named, real}) {
    if (const fs::path owner = cache_entry_of(place); !owner.empty()) {
      const fs::path boundary = fs::canonical(owner, error);
      return error ? owner : boundary;
    }
  }
  return real;
}

Result<std::optional<fs::path>> resolve_inside(const fs::path& folder, const std::string& name,
                                               const fs::path& boundary) {
  const fs::path path = folder / name;
  const std::unique_ptr<char, decltype(&std::free)> real(::realpath(path.c_str(), nullptr),
                                                         &std::free);
  if (real == nullptr && (errno == ENOENT || errno == ENOTDIR)) {
    return std::optional<fs::path>();
  }
  if (real == nullptr) {
    return system_fault(errno, "following links of", path, Code::ReadFailed)
        .at(printable_path(path));
  }
  const fs::path target(real.get());
  const auto [ours, theirs] =
      std::mismatch(boundary.begin(), boundary.end(), target.begin(), target.end());
  if (ours != boundary.end()) {
    return fail(Code::UnsafePath,
                fmt::format("{} is a link that leaves the model's folder", printable_path(path)))
        .at(printable_path(path))
        .pair("a link to " + printable_path(target), "a file below " + printable_path(boundary))
        .advise("copy the file into the folder, or give the folder that the link points to");
  }
  return std::optional(target);
}

std::optional<std::string> cached_repository(const fs::path& folder) {
  const auto boundary = link_boundary(folder);
  const std::string name = boundary ? boundary->filename().string() : std::string();
  std::error_code error;
  if (!name.starts_with("models--") || *boundary == fs::canonical(folder, error) || error) {
    return std::nullopt;
  }
  std::string repository = name.substr(std::string_view("models--").size());
  if (const std::size_t at = repository.find("--"); at != std::string::npos) {
    repository.replace(at, 2, "/");
  }
  return repository;
}

std::optional<ShardNumber> shard_number(std::string_view name) {
  const std::string_view suffix = name.ends_with(kSuffix) ? kSuffix : kTorchSuffix;
  if (!name.ends_with(suffix)) {
    return std::nullopt;
  }
  name.remove_suffix(suffix.size());
  const std::size_t of = name.rfind("-of-");
  if (of == std::string_view::npos || of == 0) {
    return std::nullopt;
  }
  const std::size_t dash = name.rfind('-', of - 1);
  if (dash == std::string_view::npos) {
    return std::nullopt;
  }
  const auto number = whole_number(name.substr(dash + 1, of - dash - 1));
  const auto total = whole_number(name.substr(of + 4));
  if (!number || !total) {
    return std::nullopt;
  }
  return ShardNumber{std::string(name.substr(0, dash)), *number, *total, of - dash - 1,
                     std::string(suffix)};
}

std::string numbered_set(const ShardNumber& number) {
  return fmt::format("{}-*-of-{:0{}}{}", number.stem, number.total, number.width, number.suffix);
}

std::vector<std::string> missing_by_number(const std::vector<std::string>& names) {
  struct Set {
    std::set<std::uint64_t> numbers;
    std::size_t width = 0;
    std::string suffix;
  };
  std::map<std::pair<std::string, std::uint64_t>, Set> sets;
  for (const std::string& name : names) {
    if (const auto found = shard_number(name); found && found->total <= kNumberedShardsMax) {
      Set& set = sets[{found->stem, found->total}];
      set.numbers.insert(found->number);
      set.width = std::max(set.width, found->width);
      set.suffix = found->suffix;
    }
  }
  std::vector<std::string> missing;
  for (const auto& [key, found] : sets) {
    for (std::uint64_t number = 1; number <= key.second && missing.size() < kNumberedShardsMax;
         ++number) {
      if (!found.numbers.contains(number)) {
        missing.push_back(fmt::format("{}-{:0{}}-of-{:0{}}{}", key.first, number, found.width,
                                      key.second, found.width, found.suffix));
      }
    }
  }
  return missing;
}

}  // namespace bv::io
