#include "core/io/megatron_iteration.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <charconv>

#include "core/base/text.hpp"
#include "core/io/entry.hpp"
#include "core/io/fault_text.hpp"
#include "core/io/writer.hpp"

namespace bv::io {
namespace {

namespace fs = std::filesystem;

/// Iterations that hold a checkpoint, the last one last.
Result<std::vector<std::string>> iterations_in(const fs::path& folder) {
  std::vector<std::string> out;
  BV_TRY(listing, list_folder(folder));
  for (const std::string& name : listing.folders) {
    if (!name.starts_with("iter_") && name != "release") {
      continue;
    }
    BV_TRY(inner, list_folder(folder / name));
    if (!inner.distcp.empty() || !rank_names(inner).empty()) {
      out.push_back(name);
    }
  }
  std::sort(out.begin(), out.end(), natural_less);
  return out;
}

/// "10" -> "iter_0000010"; nullopt for a text that is no iteration.
std::optional<std::string> folder_of(std::string_view text) {
  if (text == "release") {
    return "release";
  }
  std::int64_t iteration = -1;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), iteration);
  return error == std::errc() && end == text.data() + text.size() && iteration >= 0
             ? std::optional(fmt::format("iter_{:07}", iteration))
             : std::nullopt;
}

Error not_there(const fs::path& folder, std::string_view text,
                const std::optional<std::string>& named, const std::vector<std::string>& there) {
  const std::string tracker = printable_path(folder / kIterationTracker);
  Error error = named ? fail(Code::CacheIncomplete,
                             fmt::format("{} names {}, which holds no checkpoint", tracker, *named))
                      : fail(Code::CacheIncomplete, fmt::format("{} names no iteration", tracker));
  error.where = tracker;
  error.found =
      there.empty() ? "no iteration that holds one" : printable(join(first_lines(there, 8), ", "));
  error.wanted = named ? fmt::format("{} with *.distcp files or mp_rank_* folders", *named)
                       : fmt::format("a number or \"release\", not {}", in_quotes(text));
  error.help = there.empty()
                   ? "copy the iteration too, or give another folder"
                   : "give the iteration itself: " + printable_path(folder / there.back());
  return error;
}

/// That of the tracker, and what else lies there: the newest may be another one.
std::string why_named(const std::string& named, const std::vector<std::string>& there) {
  std::vector<std::string> others = there;
  std::erase(others, named);
  const std::string more =
      others.empty()
          ? ""
          : fmt::format("; not looked at: {}", printable(join(first_lines(others, 4), ", ")));
  return fmt::format("{} is taken: {} names it{}", named, kIterationTracker, more);
}

}  // namespace

std::vector<std::string> rank_names(const FolderListing& listing) {
  std::vector<std::string> out;
  for (const std::string& file : listing.safetensors) {
    if (glob_match("mp_rank_*.safetensors", file) || glob_match("pp*_tp*.safetensors", file)) {
      out.push_back(file);
    }
  }
  for (const std::string& folder : listing.folders) {
    if (folder.starts_with("mp_rank_")) {
      out.push_back(folder);
    }
  }
  return out;
}

Result<std::optional<ChosenIteration>> latest_iteration(const fs::path& folder) {
  constexpr std::uint64_t kBytesMax = 64;
  BV_TRY(there, iterations_in(folder));
  if (!has_entry(folder / kIterationTracker)) {
    if (there.empty()) {
      return std::optional<ChosenIteration>();
    }
    return std::optional(ChosenIteration{
        there.back(), fmt::format("{} is taken, the last of {}: there is no {}", there.back(),
                                  counted(there.size(), "iteration"), kIterationTracker)});
  }
  BV_TRY(text, read_file(folder / kIterationTracker, kBytesMax, Code::ReadFailed));
  std::string_view number = text;
  number = number.substr(0, number.find_last_not_of(" \r\n\t") + 1);
  const auto named = folder_of(number);
  if (!named || std::find(there.begin(), there.end(), *named) == there.end()) {
    return not_there(folder, number, named, there);
  }
  return std::optional(ChosenIteration{*named, why_named(*named, there)});
}

}  // namespace bv::io
