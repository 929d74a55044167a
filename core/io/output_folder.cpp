#include "core/io/output_folder.hpp"

#include <fmt/format.h>

#include <vector>

namespace bv::io {
namespace fs = std::filesystem;

namespace {

Error cannot(const std::string& what, const fs::path& path, const std::error_code& error) {
  const bool full = error == std::errc::no_space_on_device;
  return fail(full ? Code::DiskFull : Code::PermissionDenied,
              fmt::format("cannot {} {}: {}", what, path.string(), error.message()))
      .advise(full ? "free space, then repeat with --resume"
                   : "choose another --out, or change the permissions of its parent");
}

/// Absolute, without a slash at the end.
fs::path final_name(const fs::path& written) {
  const fs::path name = fs::absolute(written).lexically_normal();
  return name.has_filename() ? name : name.parent_path();
}

}  // namespace

fs::path partial_name(const fs::path& final_path) {
  return final_name(final_path).string() + ".bv-partial";
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

Result<OutputFolder> OutputFolder::create(const fs::path& final_path, bool overwrite, bool resume) {
  std::error_code error;
  const fs::path name = final_name(final_path);
  if (fs::exists(name, error) && !fs::is_directory(name, error)) {
    return fail(Code::OutputExists, fmt::format("{} is a file", final_path.string()))
        .advise("name a folder with --out");
  }
  if (fs::exists(name, error) && !fs::is_empty(name, error) && !overwrite) {
    return fail(Code::OutputExists, fmt::format("{} is not empty", final_path.string()))
        .pair("a folder with files", "no folder, or an empty one")
        .advise("choose another --out, or add --overwrite to replace it");
  }
  const fs::path partial = partial_name(final_path);
  if (fs::exists(partial, error) && !resume) {
    if (!overwrite) {
      return fail(Code::OutputExists,
                  fmt::format("{} is left from an interrupted run", partial.string()))
          .advise(
              "repeat with --resume to keep its finished files, or with --overwrite to start "
              "again");
    }
    fs::remove_all(partial, error);
  }
  fs::create_directories(partial, error);
  if (error) {
    return cannot("create", partial, error);
  }
  return OutputFolder(name, partial, overwrite);
}

OutputFolder::~OutputFolder() {
  std::error_code ignored;
  if (!partial_.empty() && fs::is_empty(partial_, ignored)) {
    fs::remove(partial_, ignored);
  }
}

Status OutputFolder::keep_only(const std::set<std::string>& files) const {
  std::error_code error;
  std::vector<fs::path> others;
  fs::directory_iterator at(partial_, error);
  for (; !error && at != fs::directory_iterator(); at.increment(error)) {
    if (!files.contains(at->path().filename().string())) {
      others.push_back(at->path());
    }
  }
  for (std::size_t i = 0; !error && i < others.size(); ++i) {
    fs::remove_all(others[i], error);
  }
  return error ? Status(cannot("clear", partial_, error)) : Status(Done{});
}

Status OutputFolder::finish() {
  std::error_code error;
  const fs::path old = final_.string() + ".bv-replaced";
  const bool replace = fs::exists(final_, error) && !fs::is_empty(final_, error);
  if (replace) {
    if (!overwrite_) {
      return fail(Code::OutputExists,
                  fmt::format("{} appeared while the output was made", final_.string()))
          .advise("choose another --out, or add --overwrite");
    }
    fs::remove_all(old, error);
    fs::rename(final_, old, error);
    if (error) {
      return cannot("move away", final_, error);
    }
  }
  fs::rename(partial_, final_, error);
  if (error) {
    return cannot("rename the finished output to", final_, error);
  }
  partial_.clear();
  if (replace) {
    fs::remove_all(old, error);
  }
  return Done{};
}

}  // namespace bv::io
