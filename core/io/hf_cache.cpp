#include "core/io/hf_cache.hpp"

#include <fmt/format.h>
#include <sys/stat.h>

#include <algorithm>
#include <ctime>

#include "core/base/text.hpp"
#include "core/io/entry.hpp"
#include "core/io/fault_text.hpp"
#include "core/io/writer.hpp"

namespace bv::io {
namespace {

namespace fs = std::filesystem;

constexpr std::size_t kRepositoryMax = 96;  // huggingface_hub validate_repo_id
constexpr std::size_t kRevisionMax = 255;
constexpr std::size_t kCommitDigits = 40;
constexpr std::size_t kCacheEntriesMax = 100'000;
constexpr std::string_view kModelPrefix = "models--";

bool is_name(std::string_view part) {
  const bool plain = std::all_of(part.begin(), part.end(), [](char c) {
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '-' ||
           c == '_' || c == '.';
  });
  const bool free_ends = !part.empty() && part.front() != '.' && part.front() != '-' &&
                         part.back() != '.' && part.back() != '-';
  return plain && free_ends && part.find("--") == std::string_view::npos &&
         part.find("..") == std::string_view::npos;
}

bool is_commit(std::string_view text) {
  return text.size() == kCommitDigits &&
         text.find_first_not_of("0123456789abcdef") == std::string_view::npos;
}

bool is_revision(std::string_view text) {
  const bool plain = std::all_of(text.begin(), text.end(), [](char c) {
    return static_cast<unsigned char>(c) > 0x20 && c != '\\' && c != ':' && c != '@' &&
           static_cast<unsigned char>(c) < 0x7f;
  });
  return plain && !text.empty() && text.size() <= kRevisionMax && text.front() != '/' &&
         text.back() != '/' && text.find("..") == std::string_view::npos &&
         text.find("//") == std::string_view::npos;
}

std::vector<std::string> folder_names(const fs::path& folder) {
  std::vector<std::string> names;
  std::error_code error;
  fs::directory_iterator at(folder, error);
  for (; !error && at != fs::directory_iterator() && names.size() < kCacheEntriesMax;
       at.increment(error)) {
    names.push_back(at->path().filename().string());
  }
  std::sort(names.begin(), names.end());
  return names;
}

std::string day_of(const fs::path& path) {
  struct stat status {};
  struct tm date {};
  if (::stat(path.c_str(), &status) != 0 || ::gmtime_r(&status.st_mtim.tv_sec, &date) == nullptr) {
    return "unknown date";
  }
  return fmt::format("{:04}-{:02}-{:02}", date.tm_year + 1900, date.tm_mon + 1, date.tm_mday);
}

std::string download_help(const std::string& repository) {
  return fmt::format("hf download {0} --include \"*.json\" fetches what names need", repository);
}

std::string reference_text(const RepositoryName& name) {
  return name.revision == "main" ? name.repository : name.repository + "@" + name.revision;
}

Error not_cached(const fs::path& root, const RepositoryName& name, const fs::path& folder) {
  Error error = fail(Code::ModelNotFound, fmt::format("{} is not in the HF cache", name.repository))
                    .fact("looked in " + printable_path(folder))
                    .advise(download_help(name.repository));
  const auto similar = similar_names(name.repository, cached_repositories(root));
  if (!similar.empty()) {
    error.facts.push_back("cached and similar: " + join(similar, ", "));
  }
  return error;
}

Error unknown_revision(const RepositoryName& name, const fs::path& folder) {
  std::vector<std::string> known;
  std::error_code error_code;
  fs::recursive_directory_iterator at(folder / "refs", error_code);
  for (; !error_code && at != fs::recursive_directory_iterator() && known.size() < kCacheEntriesMax;
       at.increment(error_code)) {
    if (at->is_regular_file(error_code)) {
      known.push_back(at->path().lexically_relative(folder / "refs").string());
    }
  }
  for (const std::string& commit : folder_names(folder / "snapshots")) {
    known.push_back(commit);
  }
  std::sort(known.begin(), known.end());
  Error error = fail(Code::ModelNotFound, fmt::format("revision {} of {} is not in the HF cache",
                                                      in_quotes(name.revision), name.repository))
                    .fact("looked in " + printable_path(folder / "refs"))
                    .advise(fmt::format("hf download {} --revision {} --include \"*.json\"",
                                        name.repository, name.revision));
  if (!known.empty()) {
    error.facts.push_back("cached revisions: " + printable(join(first_lines(known, 6), ", ")));
  }
  return error;
}

/// No refs/main: the only snapshot, or an error that lists them.
Result<CachedSnapshot> only_snapshot(const RepositoryName& name, const fs::path& folder) {
  const std::vector<std::string> commits = folder_names(folder / "snapshots");
  if (commits.size() == 1 && is_commit(commits.front())) {
    return CachedSnapshot{name.repository,
                          commits.front(),
                          folder / "snapshots" / commits.front(),
                          {fmt::format("{} has no refs/main; its only snapshot {} is used",
                                       name.repository, commits.front())}};
  }
  if (commits.empty()) {
    return fail(Code::ModelNotFound,
                fmt::format("{} has no snapshot in the HF cache", name.repository))
        .fact("looked in " + printable_path(folder / "snapshots"))
        .advise(download_help(name.repository));
  }
  std::vector<std::string> lines;
  lines.reserve(commits.size());
  for (const std::string& commit : commits) {
    lines.push_back(
        fmt::format("{} of {}", printable(commit), day_of(folder / "snapshots" / commit)));
  }
  Error error = fail(Code::ModelNotFound, fmt::format("{} has {} snapshots and no refs/main",
                                                      name.repository, commits.size()))
                    .advise(fmt::format("name one: --model {}@{}", name.repository,
                                        printable(commits.front())));
  error.facts = first_lines(lines, 6);
  return error;
}

/// The commit that refs/REV names.
Result<std::string> referenced_commit(const RepositoryName& name, const fs::path& reference) {
  constexpr std::uint64_t kReferenceBytesMax = 4096;
  BV_TRY(text, read_file(reference, kReferenceBytesMax));
  const std::size_t end = text.find_last_not_of(" \r\n\t");
  const std::string commit = text.substr(0, end == std::string::npos ? 0 : end + 1);
  if (!is_commit(commit)) {
    return fail(Code::CacheIncomplete, fmt::format("refs/{} of {} in the HF cache is damaged",
                                                   name.revision, name.repository))
        .at(printable_path(reference))
        .pair(in_quotes(commit), "40 hex digits")
        .advise(download_help(name.repository));
  }
  return commit;
}

std::string lower_case(std::string_view text) {
  std::string out(text);
  for (char& c : out) {
    c = c >= 'A' && c <= 'Z' ? static_cast<char>(c - 'A' + 'a') : c;
  }
  return out;
}

}  // namespace

std::optional<RepositoryName> parse_repository(std::string_view reference) {
  RepositoryName name;
  const std::size_t at = reference.find('@');
  const std::string_view repository = reference.substr(0, at);
  const std::string_view revision =
      at == std::string_view::npos ? "main" : reference.substr(at + 1);
  const std::size_t slash = repository.find('/');
  const bool named = slash == std::string_view::npos ? is_name(repository)
                                                     : is_name(repository.substr(0, slash)) &&
                                                           is_name(repository.substr(slash + 1));
  if (!named || repository.size() > kRepositoryMax || !is_revision(revision)) {
    return std::nullopt;
  }
  return RepositoryName{std::string(repository), std::string(revision)};
}

Result<CachedSnapshot> resolve_hf_cache(const fs::path& root, const RepositoryName& name) {
  std::string folder_name = std::string(kModelPrefix) + name.repository;
  if (const std::size_t slash = folder_name.find('/'); slash != std::string::npos) {
    folder_name.replace(slash, 1, "--");
  }
  const fs::path folder = root / folder_name;
  std::error_code ignored;
  if (!fs::is_directory(folder, ignored)) {
    return not_cached(root, name, folder);
  }
  CachedSnapshot snapshot{name.repository, name.revision, {}, {}};
  if (!is_commit(name.revision)) {
    const fs::path reference = folder / "refs" / name.revision;
    if (!has_entry(reference)) {
      return name.revision == "main" ? only_snapshot(name, folder)
                                     : Result<CachedSnapshot>(unknown_revision(name, folder));
    }
    BV_TRY(commit, referenced_commit(name, reference));
    snapshot.commit = commit;
  }
  snapshot.folder = folder / "snapshots" / snapshot.commit;
  if (!fs::is_directory(snapshot.folder, ignored)) {
    return fail(Code::CacheIncomplete,
                fmt::format("{} is not in the HF cache, other files of {} are",
                            reference_text(name), name.repository))
        .fact("looked in " + printable_path(snapshot.folder))
        .advise(download_help(name.repository));
  }
  return snapshot;
}

std::vector<std::string> cached_repositories(const fs::path& root) {
  std::vector<std::string> out;
  for (const std::string& name : folder_names(root)) {
    if (!name.starts_with(kModelPrefix)) {
      continue;
    }
    std::string repository = name.substr(kModelPrefix.size());
    if (const std::size_t dashes = repository.find("--"); dashes != std::string::npos) {
      repository.replace(dashes, 2, "/");
    }
    if (parse_repository(repository)) {
      out.push_back(std::move(repository));
    }
  }
  return out;
}

std::vector<std::string> similar_names(std::string_view wanted,
                                       const std::vector<std::string>& known) {
  constexpr std::size_t kShownMax = 3;
  std::vector<std::string> out;
  if (const auto close = nearest(wanted, known)) {
    out.push_back(printable(*close));
  }
  const std::string lower = lower_case(wanted);
  for (const std::string& name : known) {
    if (lower_case(name) == lower && std::find(out.begin(), out.end(), name) == out.end() &&
        out.size() < kShownMax) {
      out.push_back(printable(name));
    }
  }
  return out;
}

CachedFile find_cached_file(const CachedSnapshot& snapshot, std::string_view file) {
  std::error_code ignored;
  if (fs::exists(snapshot.folder / file, ignored)) {
    return CachedFile::Here;
  }
  const fs::path marker =
      snapshot.folder.parent_path().parent_path() / ".no_exist" / snapshot.commit / file;
  return fs::exists(marker, ignored) ? CachedFile::KnownAbsent : CachedFile::NotFetched;
}

Status check_cached_config(const CachedSnapshot& snapshot) {
  switch (find_cached_file(snapshot, "config.json")) {
    case CachedFile::Here:
      return Done{};
    case CachedFile::KnownAbsent:
      return fail(Code::NoConfig,
                  fmt::format("{} has no config.json on the hub", snapshot.repository))
          .at(printable_path(snapshot.folder))
          .fact("the cache says so in .no_exist/" + snapshot.commit)
          .advise("give the repository of the full model");
    case CachedFile::NotFetched:
      break;
  }
  return fail(Code::CacheIncomplete,
              fmt::format("config.json of {} is not in the HF cache", snapshot.repository))
      .at(printable_path(snapshot.folder))
      .advise(download_help(snapshot.repository));
}

}  // namespace bv::io
