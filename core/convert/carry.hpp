#pragma once
// Files of an HF folder that are no weights (config, tokenizer, code, sub-folders): which of them
// go along with a conversion, and the copying.

#include <filesystem>
#include <map>
#include <optional>
#include <set>
#include <string>
#include <vector>

#include "core/base/result.hpp"
#include "core/io/carry_file.hpp"

namespace bv::convert {

struct CarriedFile {
  std::filesystem::path from;       // links resolved
  std::optional<std::string> text;  // written in place of the file's own
};

struct CarryPlan {
  std::map<std::string, CarriedFile> files;  // relative name -> file
  std::vector<std::string> notes;            // what stays behind and why, a sentence each
};

/// Walks the folder in the order of names. Weights stay (they are converted, or no part of the
/// model), and so do hidden folders, names that cannot be written again, and links that lead out of
/// the folder (of an HF cache: out of the repository's entry) unless `follow_links`. `weights` are
/// the relative names that are converted. Errors: ReadFailed, PermissionDenied, OutputPlace when
/// there are more files than one model can have.
[[nodiscard]] Result<CarryPlan> plan_carry(const std::filesystem::path& folder,
                                           const std::set<std::string>& weights, bool follow_links);

/// Copies into `to`, which is made. Errors: those of io::carry_file.
[[nodiscard]] Result<std::map<std::string, io::FilePrint>> carry(const CarryPlan& plan,
                                                                 const std::filesystem::path& to);

/// Adds the names of the files that `carry` writes into the folder `below` ("" for the output
/// itself), relative to the output.
void add_names(const CarryPlan& plan, std::string_view below, std::set<std::string>& names);

/// Bytes that `carry` will write. Errors: those of looking at the files.
[[nodiscard]] Result<std::uint64_t> carried_bytes(const CarryPlan& plan);

}  // namespace bv::convert
