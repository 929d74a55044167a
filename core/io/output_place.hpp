#pragma once
// Whether a folder can appear under a name, and whether what stands there may go: asked before the
// first byte is written.

#include <cstdint>
#include <filesystem>
#include <functional>
#include <map>
#include <optional>
#include <set>
#include <string>
#include <vector>

#include "core/base/result.hpp"

namespace bv::io {

/// The first entry of a folder that no earlier run wrote there, relative to it; nullopt when all
/// are known.
using FirstStranger = std::function<std::optional<std::string>(const std::filesystem::path&)>;

/// One file that a run writes, so that an earlier run's can be told from a stranger's.
struct KnownFile {
  std::uint64_t size = 0;
  std::string start;   // the bytes that it begins with, such as a safetensors header
  std::string digest;  // XXH3-128 of all bytes; "" when only size and start are known
};
using KnownFiles = std::map<std::string, KnownFile>;  // relative name -> file
/// Links, other kinds of files and folders that no known file lies in are strangers too.
[[nodiscard]] FirstStranger all_but(KnownFiles known);
/// By name alone: regular files of these relative names are known.
[[nodiscard]] std::optional<std::string> first_unlisted(const std::filesystem::path& folder,
                                                        const std::vector<std::string>& names);

struct OutputRequest {
  std::filesystem::path final_path;
  bool overwrite = false;
  bool resume = false;
  /// Every file that the run may write, relative: the marker of an unfinished folder lists them, so
  /// that what somebody else puts there is never removed.
  std::set<std::string> files = {};
  bool resumable = true;  // false: what an interrupted run left is of no use
  /// Folders and files that the run reads: none may lie in the output's place, nor the output in a
  /// folder of them. Links are followed.
  std::vector<std::filesystem::path> sources = {};
  /// Says what an earlier output of the same kind holds. Without it nothing is replaced.
  FirstStranger first_stranger = {};
};

/// The absolute name under which the output appears: the last component is kept even when it is a
/// link, those before it are resolved.
[[nodiscard]] std::filesystem::path final_name(const std::filesystem::path& written);
/// "DIR.bv-partial" and "DIR.bv-replaced", beside the final folder.
[[nodiscard]] std::filesystem::path partial_name(const std::filesystem::path& final_path);
[[nodiscard]] std::filesystem::path replaced_name(const std::filesystem::path& final_path);

/// Everything that can be known before the first byte. Errors: OutputPlace (a link, a mount point,
/// below a file, inside a source or around one), OutputExists (not empty without `overwrite`, an
/// interrupted run without `resume` and `overwrite`), NotOurs (what would be deleted is not ours),
/// OutputBusy, PermissionDenied.
[[nodiscard]] Status check_output_place(const OutputRequest& request);

/// Is `inner` the folder `outer` itself or below it? Links are resolved as far as the paths exist.
[[nodiscard]] bool is_inside(const std::filesystem::path& inner,
                             const std::filesystem::path& outer);

/// The file of an unfinished folder that lists what its runs write: relative names, each ended by
/// a zero byte.
inline constexpr const char* kRunMarker = ".bv-run";
/// Names that a marker lists; none when there is no marker or it cannot be read.
[[nodiscard]] std::set<std::string> marked_files(const std::filesystem::path& folder);
/// The first entry of a folder with a marker that the marker does not list, relative to it.
[[nodiscard]] std::optional<std::string> first_unmarked(const std::filesystem::path& folder);

// What stands under a name, links not followed.
enum class Standing { Nothing, Folder, Link, Other };
[[nodiscard]] Standing standing_at(const std::filesystem::path& path);

/// Errors: NotOurs when the folder there (of an unfinished run, or put aside by one) is somebody
/// else's; fine when nothing is there.
[[nodiscard]] Status check_own_folder(const std::filesystem::path& folder,
                                      const OutputRequest& request);

/// What may be replaced: errors of check_output_place about the final name alone.
[[nodiscard]] Status check_replaceable(const std::filesystem::path& name,
                                       const OutputRequest& request);

}  // namespace bv::io
