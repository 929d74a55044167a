#include "ci/cli/session/context.hpp"

#include <unistd.h>

#include <algorithm>
#include <cctype>
#include <cerrno>
#include <utility>

namespace bv::cli {
namespace {

constexpr int kWidthDefault = 100;

bool utf8_locale(const Environment& environment) {
  for (const std::string_view name : {"LC_ALL", "LC_CTYPE", "LANG"}) {
    const std::string_view value = variable(environment, name);
    if (value.empty()) {
      continue;
    }
    std::string lower(value);
    std::transform(lower.begin(), lower.end(), lower.begin(),
                   [](unsigned char c) { return static_cast<char>(std::tolower(c)); });
    return lower.find("utf-8") != std::string::npos || lower.find("utf8") != std::string::npos;
  }
  return false;
}

bool colour_wanted(const Context& context, const Options& options, bool terminal) {
  if (options.color != "auto") {
    return options.color == "always";
  }
  if (!variable(context.environment, "NO_COLOR").empty()) {
    return false;
  }
  for (const std::string_view name : {"CLICOLOR_FORCE", "FORCE_COLOR"}) {
    const std::string_view value = variable(context.environment, name);
    if (!value.empty() && value != "0") {
      return true;
    }
  }
  return terminal && variable(context.environment, "TERM") != "dumb";
}

}  // namespace

bool Streams::flush() {
  const std::string text = std::exchange(pending_, "");
  return text.empty() || sink_(text);
}

bool write_all(int descriptor, std::string_view text) {
  while (!text.empty()) {
    const ssize_t written = ::write(descriptor, text.data(), text.size());
    if (written < 0 && errno == EINTR) {
      continue;
    }
    if (written <= 0) {
      return written < 0 && errno == EPIPE;
    }
    text.remove_prefix(static_cast<std::size_t>(written));
  }
  return true;
}

std::string_view variable(const Environment& environment, std::string_view name) {
  const auto at = environment.find(name);
  return at == environment.end() ? std::string_view() : std::string_view(at->second);
}

int width_of(const Context& context) {
  const int width = context.terminal_width ? context.terminal_width() : 0;
  return width > 0 ? width : kWidthDefault;
}

reports::TextStyle style_for(const Context& context, const Options& options, bool terminal) {
  reports::TextStyle style;
  style.color = colour_wanted(context, options, terminal);
  style.ascii = options.ascii || !utf8_locale(context.environment);
  style.width = terminal ? width_of(context) : kWidthDefault;
  style.person = terminal;
  style.verbosity = options.verbosity();
  return style;
}

}  // namespace bv::cli
