#include "core/torch_dist/integrity.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <map>
#include <nlohmann/json.hpp>

#include "core/base/text.hpp"
#include "core/base/workers.hpp"
#include "core/io/entry.hpp"
#include "core/io/fault_text.hpp"
#include "core/io/mapped_file.hpp"
#include "core/io/sha256.hpp"
#include "core/io/writer.hpp"
#include "core/torch_dist/leads_out.hpp"

namespace bv::torch_dist {
namespace fs = std::filesystem;

namespace {

constexpr std::uint64_t kBytesMax = std::uint64_t{64} << 20;
constexpr std::string_view kAlgorithm = "sha256";

using Sums = std::map<std::string, std::string>;

Error unusable(const fs::path& file, const std::string& what) {
  const std::string shown = io::printable_path(file);
  return fail(Code::DistMetadataInvalid, fmt::format("{} cannot be used: {}", shown, what))
      .at(shown)
      .pair(what, R"({"algorithm": "sha256", "files": {NAME: 64 hex digits}})")
      .advise(
          "copy it again with its checkpoint; or move it away: the hashes of the files are then "
          "not compared");
}

bool is_sum(std::string_view text) {
  return text.size() == 64 && std::all_of(text.begin(), text.end(), [](char c) {
           return (c >= '0' && c <= '9') || (c >= 'a' && c <= 'f');
         });
}

struct Stated {
  std::string algorithm;
  Sums files;
};

Result<Sums> sums_of(const nlohmann::json& files, const fs::path& path) {
  Sums out;
  for (const auto& [name, sum] : files.items()) {
    if (leads_out(name)) {
      return fail(Code::UnsafePath, fmt::format("{} names {}, which is outside the folder",
                                                io::printable_path(path), io::in_quotes(name)))
          .at(io::printable_path(path))
          .advise("do not use this checkpoint: nothing that Megatron writes does this");
    }
    if (!sum.is_string() || !is_sum(sum.get_ref<const std::string&>())) {
      return unusable(path,
                      fmt::format("the hash of {} is not one of SHA-256", io::in_quotes(name)));
    }
    out.emplace(name, sum.get<std::string>());
  }
  return out;
}

Result<Stated> read_stated(const fs::path& path) {
  BV_TRY(text, io::read_file(path, kBytesMax, Code::DistMetadataInvalid));
  const auto json = nlohmann::json::parse(text, nullptr, false);
  if (!json.is_object()) {
    return unusable(path, json.is_discarded() ? "it is not JSON" : "it is not a JSON object");
  }
  Stated out{std::string(kAlgorithm), {}};
  if (const auto at = json.find("algorithm"); at != json.end()) {
    if (!at->is_string()) {
      return unusable(path, "its algorithm is not a text");
    }
    out.algorithm = at->get<std::string>();
  }
  const auto files = json.find("files");
  if (files == json.end() || !files->is_object()) {
    return unusable(path, "it names no files");
  }
  if (out.algorithm == kAlgorithm) {
    BV_TRY(sums, sums_of(*files, path));
    out.files = std::move(sums);
  }
  return out;
}

Result<std::string> sum_of(const fs::path& path) {
  constexpr std::size_t kPieceBytes = std::size_t{1} << 20;
  BV_TRY(file, io::open_regular(path));
  io::Sha256 sum;
  std::vector<std::byte> piece(std::min<std::uint64_t>(kPieceBytes, file.stamp.size));
  for (std::uint64_t at = 0; at < file.stamp.size; at += piece.size()) {
    piece.resize(std::min<std::uint64_t>(piece.size(), file.stamp.size - at));
    BV_CHECK(io::read_exactly(file.descriptor, at, piece, path));
    sum.add(piece);
  }
  BV_CHECK(io::check_unchanged(path, file.stamp));
  return sum.digits();
}

/// Files that are read, and that it states nothing of.
std::vector<std::string> unnamed(const std::vector<fs::path>& files, const Sums& stated) {
  std::vector<std::string> out;
  for (const fs::path& file : files) {
    if (const std::string name = file.filename().string(); !stated.contains(name)) {
      out.push_back(io::in_quotes(name));
    }
  }
  return out;
}

void tell_of_others(const std::vector<std::string>& absent, const std::vector<std::string>& unnamed,
                    std::vector<std::string>& notes) {
  constexpr std::size_t kShown = 4;
  if (!absent.empty()) {
    notes.push_back(fmt::format(
        "{} states the hash of {}, which {} not there: Megatron refuses that when it loads with "
        "verify_integrity",
        kIntegrityName, join(io::first_lines(absent, kShown), ", "),
        absent.size() == 1 ? "is" : "are"));
  }
  if (!unnamed.empty()) {
    notes.push_back(fmt::format("{} states no hash of {}: {} not compared", kIntegrityName,
                                join(io::first_lines(unnamed, kShown), ", "),
                                unnamed.size() == 1 ? "it is" : "they are"));
  }
}

}  // namespace

Result<Integrity> check_integrity(const fs::path& iteration, const std::vector<fs::path>& files,
                                  int jobs) {
  Integrity out;
  const fs::path path = iteration / kIntegrityName;
  if (!io::has_entry(path)) {
    return out;
  }
  BV_TRY(stated, read_stated(path));
  if (stated.algorithm != kAlgorithm) {
    out.notes.push_back(fmt::format("{} is not compared: its algorithm {} is not {}",
                                    kIntegrityName, io::in_quotes(stated.algorithm), kAlgorithm));
    return out;
  }
  const std::vector<std::pair<std::string, std::string>> work(stated.files.begin(),
                                                              stated.files.end());
  std::vector<std::string> found(work.size());  // "" where there is no such file
  BV_CHECK(for_each_parallel(work.size(), jobs, [&](std::size_t i) -> Status {
    if (io::has_entry(iteration / work[i].first)) {
      BV_TRY(sum, sum_of(iteration / work[i].first));
      found[i] = std::move(sum);
    }
    return Done{};
  }));
  std::vector<std::string> absent;
  for (std::size_t i = 0; i < work.size(); ++i) {
    if (found[i].empty()) {
      absent.push_back(io::in_quotes(work[i].first));
      continue;
    }
    ++out.compared;
    if (found[i] != work[i].second) {
      out.changed.push_back({work[i].first, found[i], work[i].second});
    }
  }
  tell_of_others(absent, unnamed(files, stated.files), out.notes);
  return out;
}

}  // namespace bv::torch_dist
