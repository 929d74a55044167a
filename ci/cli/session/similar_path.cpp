#include "ci/cli/session/similar_path.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <string>
#include <vector>

#include "core/base/shell.hpp"
#include "core/base/text.hpp"

namespace bv::cli {
namespace {

namespace fs = std::filesystem;

/// Options whose value is a path that is read.
bool is_input(const OptionSpec& spec) {
  constexpr std::array kWritten = {"out", "dump-headers", "survivors", "report"};
  return (spec.value == "REF" || spec.value.ends_with("FILE") || spec.value.ends_with("DIR")) &&
         std::find(kWritten.begin(), kWritten.end(), spec.name) == kWritten.end();
}

bool stands(const fs::path& path) {
  std::error_code ignored;
  return fs::exists(fs::symlink_status(path, ignored));
}

std::vector<std::string> names_in(const fs::path& folder, bool folders_only) {
  constexpr std::size_t kListedMax = 10'000;
  std::vector<std::string> names;
  std::error_code error;
  std::error_code ignored;
  fs::directory_iterator at(folder.empty() ? fs::path(".") : folder, error);
  for (; !error && at != fs::directory_iterator() && names.size() < kListedMax;
       at.increment(error)) {
    if (!folders_only || at->is_directory(ignored)) {
      names.push_back(at->path().filename().string());
    }
  }
  std::sort(names.begin(), names.end());
  return names;
}

std::string plain_case(std::string_view name) {
  std::string out(name);
  std::transform(out.begin(), out.end(), out.begin(), [](char c) {
    return c >= 'A' && c <= 'Z' ? static_cast<char>(c + 32) : c == '-' ? '_' : c;
  });
  return out;
}

/// Other case, - for _, else the nearest.
std::optional<std::string> near_name(const std::string& name,
                                     const std::vector<std::string>& names) {
  const auto alike = std::find_if(names.begin(), names.end(), [&](const std::string& one) {
    return plain_case(one) == plain_case(name);
  });
  return alike == names.end() ? nearest(name, names) : std::optional(*alike);
}

fs::path rest_of(fs::path::const_iterator at, fs::path::const_iterator end) {
  fs::path out;
  for (; at != end; ++at) {
    out /= *at;
  }
  return out;
}

/// The one folder that holds the rest of the path.
std::optional<std::string> only_way(const fs::path& folder, const std::vector<std::string>& names,
                                    const fs::path& rest) {
  std::optional<std::string> found;
  for (const std::string& name : names) {
    if (stands(folder / name / rest)) {
      if (found) {
        return std::nullopt;
      }
      found = name;
    }
  }
  return found;
}

/// "" when the error is not about this path.
std::string similar_to(const std::string& written, const Environment& environment) {
  if (written.starts_with("~/")) {  // a shell does not replace it behind --model=
    const auto home = environment.find("HOME");
    const std::string path = home == environment.end() ? "" : home->second + written.substr(1);
    return !path.empty() && stands(path) ? path : "";
  }
  const auto near = similar_path(written);
  return near ? near->string() : "";
}

bool mentions(const Error& error, const std::string& written) {
  const auto in = [&](const std::string& text) {
    return text.find(escaped(written)) != std::string::npos;
  };
  return in(error.message) || in(error.where) ||
         std::any_of(error.facts.begin(), error.facts.end(), in);
}

struct NamedPath {
  std::string option;  // "--model ", "" for an operand
  std::string path;
};

std::vector<NamedPath> inputs_said(const Options& options) {
  std::vector<NamedPath> out;
  for (const Setting& setting : options.given) {
    const OptionSpec* const spec = find_option(setting.name);
    if (spec != nullptr && is_input(*spec)) {
      out.push_back({fmt::format("--{} ", spec->name), setting.text});
    }
  }
  for (const std::string& operand : options.operands) {
    out.push_back({"", operand});
  }
  return out;
}

}  // namespace

fs::path first_missing(const fs::path& path) {
  fs::path so_far;
  for (const fs::path& part : path) {
    so_far /= part;
    if (!part.empty() && !stands(so_far)) {
      return so_far;
    }
  }
  return path;
}

std::optional<fs::path> similar_path(const fs::path& path) {
  fs::path so_far;
  bool changed = false;
  const fs::path named = path.has_filename() ? path : path.parent_path();
  for (auto part = named.begin(); part != named.end(); ++part) {
    if (stands(so_far / *part)) {
      so_far /= *part;
      continue;
    }
    const bool last = std::next(part) == named.end();
    const std::vector<std::string> names = names_in(so_far, !last);
    auto near = near_name(part->string(), names);
    if (!near && !last) {
      near = only_way(so_far, names, rest_of(std::next(part), named.end()));
    }
    if (!near) {
      return std::nullopt;
    }
    so_far /= *near;
    changed = true;
  }
  return changed ? std::optional(so_far) : std::nullopt;
}

Error with_similar_path(const Options& options, const Environment& environment, Error error) {
  for (const NamedPath& one : inputs_said(options)) {
    if (one.path.empty() || stands(one.path) || !mentions(error, one.path)) {
      continue;
    }
    if (const std::string near = similar_to(one.path, environment); !near.empty()) {
      error.help = fmt::format("did you mean {}{}?", one.option, shell_quoted(near));
      return error;
    }
    const fs::path missing = first_missing(one.path);
    const auto near = missing == fs::path(one.path) ? std::nullopt : similar_path(missing);
    if (near) {
      error.facts.push_back(fmt::format("there is no {}, but {}", escaped(missing.string()),
                                        escaped(near->string())));
    }
  }
  return error;
}

}  // namespace bv::cli
