#include "core/io/output_place.hpp"

#include <fcntl.h>
#include <fmt/format.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <set>

#include "core/io/carry_file.hpp"
#include "core/io/fault_text.hpp"
#include "core/io/mapped_file.hpp"
#include "core/io/writer.hpp"

namespace bv::io {
namespace fs = std::filesystem;

namespace {

constexpr const char* kOtherPlace = "name a new folder with --out";
constexpr std::uint64_t kMarkerBytesMax = 64U << 20U;

Error bad_place(const fs::path& place, const std::string& message) {
  return fail(Code::OutputPlace, message).at(printable_path(place)).advise(kOtherPlace);
}

bool is_mount_point(const fs::path& folder) {
  struct statx status {};
  return ::statx(AT_FDCWD, folder.c_str(), AT_SYMLINK_NOFOLLOW, STATX_BASIC_STATS, &status) == 0 &&
         (status.stx_attributes_mask & STATX_ATTR_MOUNT_ROOT) != 0 &&
         (status.stx_attributes & STATX_ATTR_MOUNT_ROOT) != 0;
}

/// In a sticky folder (/tmp) only the owner of an entry may rename it.
bool may_rename(const fs::path& entry) {
  struct stat own {};
  struct stat parent {};
  if (::geteuid() == 0 || ::lstat(entry.c_str(), &own) != 0 ||
      ::stat(entry.parent_path().c_str(), &parent) != 0 || (parent.st_mode & S_ISVTX) == 0) {
    return true;
  }
  return own.st_uid == ::geteuid() || parent.st_uid == ::geteuid();
}

/// A place may look writable and hold no folders all the same (/proc, an exhausted quota of files).
Status try_folder_in(const fs::path& parent) {
  std::string probe = (parent / ".bv-probe-XXXXXX").string();
  if (::mkdtemp(probe.data()) == nullptr) {
    return system_fault(errno, "making a folder in", parent, Code::OutputPlace)
        .at(printable_path(parent))
        .advise("choose another --out");
  }
  ::rmdir(probe.c_str());
  return Done{};
}

/// The nearest folder above `name` that exists must be one, and let us write.
Status check_parent(const fs::path& name) {
  fs::path at = name.parent_path();
  struct stat status {};
  while (::stat(at.c_str(), &status) != 0) {
    if (errno == ENOTDIR || errno == ENOENT) {
      if (standing_at(at) == Standing::Link) {
        return bad_place(name, fmt::format("{} on the way to the output is a link to nothing",
                                           printable_path(at)));
      }
      at = at.parent_path();
      continue;
    }
    return system_fault(errno, "looking at", at, Code::OutputPlace).at(printable_path(at));
  }
  if (!S_ISDIR(status.st_mode)) {
    return bad_place(name, fmt::format("{} on the way to the output is a file, not a folder",
                                       printable_path(at)));
  }
  if (::faccessat(AT_FDCWD, at.c_str(), W_OK | X_OK, AT_EACCESS) != 0) {
    return system_fault(errno, "making a folder in", at, Code::OutputPlace)
        .at(printable_path(at))
        .advise("choose another --out, or make that folder writable");
  }
  return try_folder_in(at);
}

Status check_sources(const fs::path& name, const OutputRequest& request) {
  for (const fs::path& source : request.sources) {
    std::error_code ignored;
    if (fs::is_directory(source, ignored) && is_inside(name, source)) {
      return bad_place(name, fmt::format("--out {} is inside the folder that is read",
                                         printable_path(request.final_path)))
          .pair(printable_path(request.final_path), "a folder outside " + printable_path(source));
    }
    for (const fs::path& place : {name, partial_name(name), replaced_name(name)}) {
      if (is_inside(source, place)) {
        return bad_place(name,
                         fmt::format("{} lies in {}, which the output would take the place of",
                                     printable_path(source), printable_path(place)))
            .pair(printable_path(request.final_path), "a folder that holds nothing that is read");
      }
    }
  }
  return Done{};
}

/// A run that is alive holds the lock of its unfinished folder.
bool is_locked(const fs::path& folder) {
  const Descriptor open(::open(folder.c_str(), O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC));
  return open.number() >= 0 && ::flock(open.number(), LOCK_SH | LOCK_NB) != 0 &&
         errno == EWOULDBLOCK;
}

Status check_partial(const fs::path& partial, const OutputRequest& request) {
  if (standing_at(partial) == Standing::Nothing) {
    return Done{};
  }
  if (standing_at(partial) == Standing::Folder && is_locked(partial)) {
    return fail(Code::OutputBusy,
                fmt::format("another run writes {} now", printable_path(request.final_path)))
        .at(printable_path(partial))
        .advise("wait for it, or choose another --out");
  }
  BV_CHECK(check_own_folder(partial, request));
  std::error_code ignored;
  if (!request.resume && !request.overwrite && !fs::is_empty(partial, ignored)) {
    return fail(Code::OutputExists,
                fmt::format("{} is left from an interrupted run", printable_path(partial)))
        .at(printable_path(partial))
        .advise(request.resumable ? "repeat with --resume to keep its finished files, or with "
                                    "--overwrite to start again"
                                  : "repeat with --overwrite to start again");
  }
  return Done{};
}

bool is_known(const fs::path& path, const KnownFile& known) {
  const auto opened = open_regular(path);
  std::string start(known.start.size(), '\0');
  if (!opened || opened->stamp.size != known.size ||
      !read_exactly(opened->descriptor, 0, std::as_writable_bytes(std::span(start)), path) ||
      start != known.start) {
    return false;
  }
  if (known.digest.empty()) {
    return true;
  }
  const auto print = print_of_file(path);
  return print && print->digest == known.digest;
}

/// Every folder that one of these files lies in.
std::set<std::string> folders_of(const std::vector<std::string>& names) {
  std::set<std::string> out;
  for (const std::string& name : names) {
    for (fs::path at = fs::path(name).parent_path(); !at.empty(); at = at.parent_path()) {
      out.insert(at.string());
    }
  }
  return out;
}

/// Walks a folder in the order of names; stops at the first entry that `is_file_known` or the list
/// of folders does not know.
std::optional<std::string> first_unknown(
    const fs::path& folder, const std::set<std::string>& folders,
    const std::function<bool(const std::string&, const fs::path&)>& is_file_known) {
  std::error_code error;
  std::vector<std::pair<std::string, bool>> entries;  // relative name, is a folder
  fs::recursive_directory_iterator at(folder, error);
  for (; !error && at != fs::recursive_directory_iterator(); at.increment(error)) {
    const bool is_folder = standing_at(at->path()) == Standing::Folder;
    const std::string name = at->path().lexically_relative(folder).string();
    if (is_folder && !folders.contains(name)) {
      at.disable_recursion_pending();  // what is in it is not ours to look at
    }
    if (name != kRunMarker) {
      entries.emplace_back(name, is_folder);
    }
  }
  if (error) {
    return printable(error.message());
  }
  std::sort(entries.begin(), entries.end());
  for (const auto& [name, is_folder] : entries) {
    if (is_folder ? !folders.contains(name) : !is_file_known(name, folder / name)) {
      return name;
    }
  }
  return std::nullopt;
}

}  // namespace

Standing standing_at(const fs::path& path) {
  struct stat status {};
  if (::lstat(path.c_str(), &status) != 0) {
    return Standing::Nothing;
  }
  return S_ISDIR(status.st_mode)   ? Standing::Folder
         : S_ISLNK(status.st_mode) ? Standing::Link
                                   : Standing::Other;
}

FirstStranger all_but(KnownFiles known) {
  return [known = std::move(known)](const fs::path& folder) {
    std::vector<std::string> names;
    for (const auto& [name, file] : known) {
      names.push_back(name);
    }
    return first_unknown(folder, folders_of(names),
                         [&known](const std::string& name, const fs::path& path) {
                           const auto file = known.find(name);
                           return file != known.end() && standing_at(path) == Standing::Other &&
                                  is_known(path, file->second);
                         });
  };
}

std::optional<std::string> first_unlisted(const fs::path& folder,
                                          const std::vector<std::string>& names) {
  const std::set<std::string> listed(names.begin(), names.end());
  return first_unknown(folder, folders_of(names),
                       [&listed](const std::string& name, const fs::path& path) {
                         std::error_code ignored;
                         return listed.contains(name) &&
                                fs::symlink_status(path, ignored).type() == fs::file_type::regular;
                       });
}

std::set<std::string> marked_files(const fs::path& folder) {
  std::set<std::string> out;
  const auto text = read_file(folder / kRunMarker, kMarkerBytesMax, Code::ReadFailed);
  for (std::size_t begin = 0; text && begin < text->size();) {
    const std::size_t end = text->find('\0', begin);
    if (end == std::string::npos) {
      break;  // the run ended within a name, and so before it wrote that file
    }
    out.insert(text->substr(begin, end - begin));
    begin = end + 1;
  }
  return out;
}

std::optional<std::string> first_unmarked(const fs::path& folder) {
  const std::set<std::string> marked = marked_files(folder);
  return first_unknown(folder, folders_of({marked.begin(), marked.end()}),
                       [&marked](const std::string& name, const fs::path& path) {
                         return marked.contains(name) ||
                                path.filename().string().starts_with(kUnfinishedFile);
                       });
}

fs::path final_name(const fs::path& written) {
  std::error_code ignored;
  fs::path name = fs::absolute(written, ignored);
  while (!name.has_filename() && name.has_relative_path()) {
    name = name.parent_path();  // slashes at the end
  }
  if (name.filename() == "." || name.filename() == "..") {
    name = fs::weakly_canonical(name, ignored);
  }
  const fs::path parent = fs::weakly_canonical(name.parent_path(), ignored);
  return parent.empty() ? name.lexically_normal() : parent / name.filename();
}

fs::path partial_name(const fs::path& final_path) {
  return final_name(final_path).string() + ".bv-partial";
}

fs::path replaced_name(const fs::path& final_path) {
  return final_name(final_path).string() + ".bv-replaced";
}

bool is_inside(const fs::path& inner, const fs::path& outer) {
  std::error_code ignored;
  const fs::path a = fs::weakly_canonical(fs::absolute(inner), ignored);
  const fs::path b = fs::weakly_canonical(fs::absolute(outer), ignored);
  auto left = a.begin();
  for (const fs::path& part : b) {
    if (part.empty()) {
      continue;
    }
    if (left == a.end() || *left != part) {
      return false;
    }
    ++left;
  }
  return true;
}

Status check_own_folder(const fs::path& folder, const OutputRequest& request) {
  const Standing standing = standing_at(folder);
  if (standing == Standing::Nothing) {
    return Done{};
  }
  struct stat status {};
  std::string stranger;
  if (standing != Standing::Folder) {
    stranger = standing == Standing::Link ? "it is a link" : "it is a file";
  } else if (::lstat(folder.c_str(), &status) != 0 || status.st_uid != ::geteuid()) {
    stranger = "it belongs to another user";
  } else if (std::error_code ignored; !fs::is_empty(folder, ignored)) {
    const auto found = standing_at(folder / kRunMarker) == Standing::Other ? first_unmarked(folder)
                       : request.first_stranger ? request.first_stranger(folder)
                                                : std::optional<std::string>("what is in it");
    stranger = found ? fmt::format("no run wrote {} in it", in_quotes(*found)) : "";
  }
  if (stranger.empty()) {
    return Done{};
  }
  return fail(Code::NotOurs,
              fmt::format("{} is in the way and is not ours: {}", printable_path(folder), stranger))
      .at(printable_path(folder))
      .advise(
          "move the folder away, also when another command line wrote it, or choose another "
          "--out; nothing was touched");
}

Status check_replaceable(const fs::path& name, const OutputRequest& request) {
  const std::string shown = printable_path(request.final_path);
  switch (standing_at(name)) {
    case Standing::Nothing:
      return Done{};
    case Standing::Link:
      return bad_place(name, fmt::format("{} is a link", shown))
          .pair("a link", "a folder, or nothing")
          .advise("give the folder that it should point to, or delete the link");
    case Standing::Other:
      return fail(Code::OutputExists, fmt::format("{} is a file", shown)).advise(kOtherPlace);
    case Standing::Folder:
      break;
  }
  if (is_mount_point(name)) {
    return bad_place(name, fmt::format("{} is a mount point: no folder can take its place", shown))
        .advise(fmt::format("name a folder inside it: --out {}",
                            printable_path(request.final_path / "NAME")));
  }
  if (!may_rename(name)) {
    return fail(Code::PermissionDenied,
                fmt::format("{} belongs to another user, in a folder where only owners rename",
                            shown))
        .at(printable_path(name))
        .advise(kOtherPlace);
  }
  std::error_code error;
  const bool empty = fs::is_empty(name, error);
  if (error) {
    return system_fault(error.value(), "listing", name, Code::ReadFailed).at(printable_path(name));
  }
  if (empty) {
    return Done{};
  }
  const auto stranger = request.first_stranger ? request.first_stranger(name)
                                               : std::optional<std::string>("what is in it");
  if (request.resume && !request.overwrite && !stranger) {
    return fail(Code::OutputExists, fmt::format("{} is finished: nothing is to be resumed", shown))
        .pair("a whole output", "an interrupted one")
        .advise("use it as it is, or add --overwrite to write it again");
  }
  if (!request.overwrite) {
    return fail(Code::OutputExists, fmt::format("{} is not empty", shown))
        .pair("a folder with files", "no folder, or an empty one")
        .advise("choose another --out, or add --overwrite to replace an earlier output");
  }
  if (stranger) {
    return fail(Code::NotOurs,
                fmt::format("--overwrite would delete {}, which this command would not "
                            "write",
                            printable_path(name / *stranger)))
        .at(printable_path(name))
        .pair(in_quotes(*stranger), "only files that this command line writes, as it writes them")
        .advise(
            "move the folder away, also when another command line wrote it, or choose another "
            "--out; nothing was touched");
  }
  return Done{};
}

Status check_output_place(const OutputRequest& request) {
  const fs::path name = final_name(request.final_path);
  if (!name.has_filename() || !name.has_relative_path()) {
    return bad_place(name, fmt::format("--out {} is the root of the file system",
                                       printable_path(request.final_path)));
  }
  BV_CHECK(check_parent(name));
  BV_CHECK(check_sources(name, request));
  BV_CHECK(check_replaceable(name, request));
  BV_CHECK(check_own_folder(replaced_name(name), request));
  return check_partial(partial_name(name), request);
}

}  // namespace bv::io
