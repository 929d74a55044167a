#include "ci/cli/session/families.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <filesystem>
#include <set>

#include "core/base/text.hpp"
#include "core/foreign/foreign_kinds.hpp"
#include "core/io/digest.hpp"
#include "core/io/entry.hpp"
#include "core/io/writer.hpp"
#include "oracles/model_style.hpp"

namespace bv::cli {
namespace {
namespace fs = std::filesystem;

constexpr std::uint64_t kFileMax = std::uint64_t{4} << 20;
constexpr std::size_t kFilesMax = 1000;

Error unreadable(const fs::path& folder, std::string found) {
  return fail(Code::ReadFailed,
              fmt::format("{} is not a folder of families", escaped(folder.string())))
      .pair(std::move(found), "a folder that holds one *.json for each family")
      .advise("name a folder like core/families (docs/howto/family-without-a-build.md)");
}

Result<std::vector<family::RulesText>> read_folder(const fs::path& folder) {
  std::vector<fs::path> paths;
  std::error_code error;
  for (fs::directory_iterator at(folder, error), end; !error && at != end; at.increment(error)) {
    if (at->path().extension() == ".json") {
      paths.push_back(at->path());
    }
    if (paths.size() > kFilesMax) {
      return unreadable(folder, fmt::format("more than {} files", kFilesMax));
    }
  }
  if (error) {
    return unreadable(folder, error.message());
  }
  std::sort(paths.begin(), paths.end());
  std::vector<family::RulesText> out;
  for (const fs::path& path : paths) {
    BV_TRY(text, io::read_file(path, kFileMax));
    out.push_back({path.string(), std::move(text)});
  }
  return out;
}

/// The files of all folders that --families names.
struct FamilyFiles {
  std::vector<family::RulesText> families;
  std::vector<family::RulesText> tables;
};

/// A folder that is named twice, or by two spellings, and a link to a file that is there already:
/// the same file counts once.
void add_new(std::vector<family::RulesText>& files, std::set<fs::path>& seen,
             std::vector<family::RulesText>& out) {
  for (family::RulesText& file : files) {
    std::error_code error;
    const fs::path real = fs::canonical(file.name, error);
    if (seen.insert(error ? fs::path(file.name) : real).second) {
      out.push_back(std::move(file));
    }
  }
}

Result<FamilyFiles> read_families(const Options& options) {
  FamilyFiles out;
  std::set<fs::path> seen;
  for (const std::string& folder : options.families) {
    BV_TRY(files, read_folder(folder));
    if (files.empty()) {
      return unreadable(folder, "no *.json");
    }
    add_new(files, seen, out.families);
    if (io::has_entry(fs::path(folder) / "tables")) {
      BV_TRY(more, read_folder(fs::path(folder) / "tables"));
      add_new(more, seen, out.tables);
    }
  }
  return out;
}

/// `kind` or mapping class -> the line of the catalogue that is meant.
std::optional<std::string> kind_meant(const std::string& kind, const kinds::Catalogue& lines) {
  if (const auto table = foreign::foreign_kinds()) {
    const foreign::ForeignKind* const known = table->find(kind);
    if (known != nullptr && lines.find(known->line.kind) != nullptr) {
      return known->line.kind;  // a name of the upstream's rules files
    }
  }
  std::vector<std::string> names;
  for (const layout::Rule& line : lines.rules()) {
    names.push_back(line.name);
  }
  return nearest(kind, names);
}

Status check_kinds(const family::Family& family, const kinds::Catalogue& lines) {
  for (const family::Rule& rule : family::rules(family)) {
    if (lines.find(rule.kind) != nullptr) {
      continue;
    }
    const auto near = kind_meant(rule.kind, lines);
    return fail(Code::RulesInvalid,
                fmt::format("kind \"{}\" is not in the catalogue", readable(rule.kind)))
        .at(rule.source)
        .fact(readable(rule.megatron))
        .advise(near ? fmt::format("did you mean \"{}\"?", *near)
                     : "bridge-verify rules list names the kinds");
  }
  return Done{};
}

/// A model_type that no oracle knows leaves claims open; one that is nearly known is misspelt.
Status check_statement(const family::Family& family, const std::string& like) {
  const auto near = like.empty() || oracle::style_of(like) != nullptr
                        ? std::nullopt
                        : nearest(like, oracle::known_model_types());
  if (!near) {
    return Done{};
  }
  return fail(Code::RulesInvalid, fmt::format("facts.computes_like of family {} names \"{}\", "
                                              "which no oracle knows",
                                              family::name(family), readable(like)))
      .pair(readable(like), join(oracle::known_model_types(), ", "))
      .advise(fmt::format("did you mean \"{}\"?", *near));
}

}  // namespace

Status check_families(const std::vector<family::FamilyPtr>& families,
                      const kinds::Catalogue& lines) {
  for (const family::FamilyPtr& family : families) {
    BV_CHECK(check_kinds(*family, lines));
    BV_CHECK(check_statement(*family, family::stated_facts(*family).computes_like));
  }
  return Done{};
}

Result<std::vector<family::FamilyPtr>> load_families(const Options& options) {
  BV_TRY(files, read_families(options));
  return family::families_with(files.families, files.tables);
}

Result<std::string> families_digest(const Options& options) {
  BV_TRY(files, read_families(options));
  io::Digest digest;
  for (const auto* list : {&files.families, &files.tables}) {
    for (const family::RulesText& file : *list) {
      digest.add(fmt::format("{} {} ", fs::path(file.name).filename().string(), file.text.size()));
      digest.add(file.text);
    }
  }
  return options.families.empty() ? std::string() : digest.hex();
}

}  // namespace bv::cli
