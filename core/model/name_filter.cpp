#include "core/model/name_filter.hpp"

#include <fmt/format.h>

#include <algorithm>

#include "core/base/text.hpp"

namespace bv::model {
namespace {

std::size_t common_length(std::string_view a, std::string_view b) {
  const auto differs = std::mismatch(a.begin(), a.end(), b.begin(), b.end());
  return static_cast<std::size_t>(differs.first - a.begin());
}

/// The name that agrees longest with the text before the first wildcard and behind the last; ""
/// when none agrees with half of it.
std::string nearest_name(std::string_view glob, const Headers& headers) {
  const std::string_view start = glob.substr(0, glob.find_first_of("*?"));
  const std::size_t last = glob.find_last_of("*?");
  std::string end(last == std::string_view::npos ? std::string_view() : glob.substr(last + 1));
  std::reverse(end.begin(), end.end());
  std::string best;
  std::size_t length = (start.size() + end.size() + 1) / 2;  // less is no name that was meant
  for (const auto& [name, spec] : headers) {
    const std::string backwards(name.rbegin(), name.rend());
    const std::size_t agreed = common_length(start, name) + common_length(end, backwards);
    if (agreed > 0 && agreed >= length + (best.empty() ? 0 : 1)) {
      best = name;
      length = agreed;
    }
  }
  return best;
}

Error takes_nothing(std::string_view option, const std::string& glob, const Headers& headers) {
  const std::string near = nearest_name(glob, headers);
  return fail(Code::BadValue, fmt::format("--{} {} matches no tensor", option, escaped(glob)))
      .pair(escaped(glob), fmt::format("a glob that takes one of the {} names",
                                       thousands(static_cast<std::int64_t>(headers.size()))))
      .advise(headers.empty() ? std::string("the checkpoint has no tensor")
              : near.empty()
                  ? std::string("bridge-verify inspect lists the names")
                  : fmt::format("the nearest name is {}; bridge-verify inspect lists all",
                                escaped(near)));
}

}  // namespace

Result<std::set<std::string, std::less<>>> excluded_names(const NameFilter& filter,
                                                          const Headers& headers) {
  std::set<std::string, std::less<>> out;
  for (const std::string& glob : filter.exclude) {
    bool any = false;
    for (const auto& [name, spec] : headers) {
      if (glob_match(glob, name)) {
        any = true;
        out.insert(name);
      }
    }
    if (!any) {
      return takes_nothing("exclude", glob, headers);
    }
  }
  for (const std::string& glob : filter.match) {
    const bool any = std::any_of(headers.begin(), headers.end(), [&](const auto& header) {
      return glob_match(glob, header.first) && !out.contains(header.first);
    });
    if (!any) {
      return takes_nothing("match", glob, headers);
    }
  }
  if (!out.empty() && out.size() == headers.size()) {
    return fail(Code::Conflict, "--exclude leaves no tensor")
        .pair(join(filter.exclude, " "), "globs that leave the model itself")
        .advise("exclude only what is not part of the model");
  }
  return out;
}

bool is_asked_for(const ResolveOptions& options, std::string_view name) {
  return options.match.empty() ||
         std::any_of(options.match.begin(), options.match.end(),
                     [&](const std::string& glob) { return glob_match(glob, name); });
}

}  // namespace bv::model
