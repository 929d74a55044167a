#pragma once
// Models in the cache of huggingface_hub, offline (docs/reference/formats.md#finding-a-model). The
// root comes in as an argument; nothing is fetched.

#include <filesystem>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "core/base/result.hpp"

namespace bv::io {

/// "Qwen/Qwen3.5-9B@v1": repository and revision, both checked to be plain names.
struct RepositoryName {
  std::string repository;
  std::string revision;  // "main" when none is given
};
/// nullopt: the text cannot be a repository of the hub.
[[nodiscard]] std::optional<RepositoryName> parse_repository(std::string_view reference);

struct CachedSnapshot {
  std::string repository;
  std::string commit;
  std::filesystem::path folder;    // <root>/models--ORG--NAME/snapshots/<commit>
  std::vector<std::string> notes;  // how the revision was chosen, when that is not plain
};

/// Revision: 40 hex digits as they are, else the text of refs/REV. Without refs/main the only
/// snapshot counts, with a note. Errors: ModelNotFound (not cached, unknown revision, several
/// snapshots and no refs/main), CacheIncomplete (a revision that is known and not there).
[[nodiscard]] Result<CachedSnapshot> resolve_hf_cache(const std::filesystem::path& root,
                                                      const RepositoryName& name);

/// Repositories in the cache, in byte order.
[[nodiscard]] std::vector<std::string> cached_repositories(const std::filesystem::path& root);

/// Known names that the user may have meant, at most three: distance of at most 2, a unique prefix,
/// or other case.
[[nodiscard]] std::vector<std::string> similar_names(std::string_view wanted,
                                                     const std::vector<std::string>& known);

enum class CachedFile { Here, KnownAbsent, NotFetched };
/// KnownAbsent: .no_exist says that the hub has no such file at this revision.
[[nodiscard]] CachedFile find_cached_file(const CachedSnapshot& snapshot, std::string_view file);

/// A snapshot without config.json. Errors: NoConfig when the hub has none, CacheIncomplete when it
/// was not fetched.
[[nodiscard]] Status check_cached_config(const CachedSnapshot& snapshot);

}  // namespace bv::io
