// The error of a checkpoint that lacks shards.

#include <fmt/format.h>

#include <algorithm>

#include "core/base/text.hpp"
#include "core/io/checkpoint_parts.hpp"
#include "core/io/fault_text.hpp"
#include "core/io/shard_index.hpp"

namespace bv::io {
namespace fs = std::filesystem;

namespace {

/// Weights that lie where shards are missing: a save under other names, or a part of one.
void say_others(const CheckpointParts& parts, Error& error) {
  for (std::size_t i = 0; i < std::min<std::size_t>(parts.others.size(), 6); ++i) {
    const WeightsSet& set = parts.others[i];
    if (set.whole && set.readable && set.shared == parts.named.size()) {
      error.facts.push_back(
          fmt::format("{} holds every tensor that the index names: the index is "
                      "of another save",
                      set.text()));
      error.help = "delete the index, or write it again from the files that are there";
    } else {
      error.facts.push_back(
          fmt::format("not in the index: {}; it holds {} of {} that the index names", set.text(),
                      grouped(set.shared), counted(parts.named.size(), "tensor")));
    }
  }
}

}  // namespace

Error missing_shards_error(const CheckpointParts& parts, const fs::path& path) {
  std::vector<std::string> names;
  std::string includes;
  for (const MissingShard& shard : parts.missing) {
    const std::size_t of = shard.file.rfind("-of-");
    names.push_back(in_quotes(shard.file));
    if (names.size() <= 6) {
      includes += fmt::format(
          " \"{}\"",
          printable(of == std::string::npos ? shard.file : shard.file.substr(0, of) + "-*"));
    }
  }
  std::error_code ignored;
  const fs::path folder = fs::is_directory(path, ignored) ? path : path.parent_path();
  const auto repository = cached_repository(folder);
  const std::size_t all = parts.missing.size() + parts.files.size();
  Error error = fail(Code::CacheIncomplete,
                     fmt::format("{} of {} {} missing from the {}", parts.missing.size(),
                                 counted(all, "shard"), parts.missing.size() == 1 ? "is" : "are",
                                 repository ? "snapshot" : "folder"))
                    .at(printable_path(path))
                    .pair(counted(parts.files.size(), "shard"), counted(all, "shard"));
  error.facts = first_lines(names, 6);
  error.facts.push_back("names can be checked, bytes cannot");
  error.help =
      repository
          ? fmt::format("--level headers with --headers FILE, or hf download {} --include{}",
                        printable(*repository), includes)
          : "--level headers with --headers FILE, or copy the missing shards into the folder";
  if (!parts.named.empty()) {
    say_others(parts, error);
  }
  return error;
}

}  // namespace bv::io
