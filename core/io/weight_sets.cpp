#include "core/io/weight_sets.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <map>
#include <set>

#include "core/base/arith.hpp"
#include "core/base/text.hpp"
#include "core/io/checkpoint_parts.hpp"
#include "core/io/fault_text.hpp"
#include "core/io/shard_index.hpp"
#include "core/io/writer.hpp"

namespace bv::io {
namespace {

namespace fs = std::filesystem;

/// Gathers the sets of one folder; a file belongs to the first that takes it.
class Sets {
 public:
  Sets(const fs::path& folder, const FolderListing& listing, const ReadWeights& read)
      : folder_(folder), listing_(listing), read_(read) {}

  std::vector<WeightsSet> run() {
    for (const std::string& index : listing_.indexes) {
      if (index != read_.index) {
        add_index(index);
      }
    }
    add_numbered();
    for (const std::string& file : listing_.safetensors) {
      if (is_free(file)) {
        add({file, {file}});
      }
    }
    std::vector<WeightsSet> out;
    for (WeightsSet& set : sets_) {
      if (look_at(set)) {
        out.push_back(std::move(set));
      }
    }
    return out;
  }

 private:
  [[nodiscard]] bool is_free(const std::string& file) const {
    return !taken_.contains(file) &&
           !std::binary_search(read_.files.begin(), read_.files.end(), file);
  }

  void add(WeightsSet set) {
    taken_.insert(set.files.begin(), set.files.end());
    sets_.push_back(std::move(set));
  }

  /// An index that cannot be read, or that has no file of its own here, is no set.
  void add_index(const std::string& name) {
    const auto text = read_file(folder_ / name, kIndexBytesMax, Code::IndexInvalid);
    auto index = text ? parse_shard_index(*text, name) : Result<ShardIndex>(text.error());
    if (!index) {
      return;
    }
    std::error_code ignored;
    WeightsSet set;
    set.name = name;
    bool own = false;
    for (const std::string& shard : index->shards) {
      if (!fs::exists(folder_ / shard, ignored)) {
        set.whole = false;
        continue;
      }
      own = own || is_free(shard);
      set.files.push_back(shard);
    }
    if (own) {
      add(std::move(set));
    }
  }

  void add_numbered() {
    std::map<std::pair<std::string, std::uint64_t>, WeightsSet> sets;
    for (const std::string& file : listing_.safetensors) {
      if (const auto number = shard_number(file); number && is_free(file)) {
        WeightsSet& set = sets[{number->stem, number->total}];
        set.name = numbered_set(*number);
        set.files.push_back(file);
        set.whole = set.files.size() == number->total;
      }
    }
    for (auto& [key, set] : sets) {
      add(std::move(set));
    }
  }

  /// False for files that are not of this folder, or are other names of files that were read.
  bool look_at(WeightsSet& set) {
    const auto boundary = link_boundary(folder_);
    std::set<std::string, std::less<>> seen;
    bool other = false;
    for (const std::string& file : set.files) {
      const auto real = boundary ? resolve_inside(folder_, file, *boundary)
                                 : Result<std::optional<fs::path>>(boundary.error());
      if (!real || !*real) {
        set.readable = false;
        other = true;
        continue;
      }
      const auto opened = open_regular(folder_ / file);
      const auto header =
          opened ? read_header(*opened, folder_ / file) : Result<SafetensorsHeader>(opened.error());
      if (!header) {
        set.readable = false;
        other = true;
        continue;
      }
      other = other || std::find(read_.stamps.begin(), read_.stamps.end(), opened->stamp) ==
                           read_.stamps.end();
      for (const StoredTensor& tensor : header->tensors) {
        ++set.tensors;
        set.elements += static_cast<std::uint64_t>(element_count(tensor.spec.shape).value_or(0));
        if (std::binary_search(read_.tensors.begin(), read_.tensors.end(), tensor.spec.name)) {
          seen.insert(tensor.spec.name);
        }
      }
    }
    set.shared = seen.size();
    return other;
  }

  const fs::path& folder_;
  const FolderListing& listing_;
  const ReadWeights& read_;
  std::set<std::string> taken_;
  std::vector<WeightsSet> sets_;
};

}  // namespace

std::string WeightsSet::text() const {
  const std::string shown = printable(bounded(name, kWordShownMax));
  return files.size() == 1 && files.front() == name
             ? shown
             : fmt::format("{} ({})", shown, counted(files.size(), "file"));
}

std::vector<WeightsSet> other_sets(const fs::path& folder, const FolderListing& listing,
                                   const ReadWeights& read) {
  return Sets(folder, listing, read).run();
}

bool is_second_checkpoint(const WeightsSet& set, std::size_t tensors, std::uint64_t elements) {
  if (!set.whole || !set.readable || set.tensors == 0) {
    return false;
  }
  return set.shared == tensors || (elements > 0 && set.elements >= elements - elements / 2);
}

}  // namespace bv::io
