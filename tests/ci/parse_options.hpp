#pragma once
// Command lines parsed as the command parses them.

#include <gtest/gtest.h>

#include <string>
#include <vector>

#include "ci/cli/command.hpp"
#include "ci/cli/options/options.hpp"

namespace bv::cli {

inline std::vector<CommandName> names() {
  std::vector<CommandName> out;
  for (const Command& command : commands()) {
    out.push_back(command.name);
  }
  return out;
}

inline Result<Parsed> parse(std::vector<std::string> arguments, const Environment& environment = {},
                            const std::vector<SettingsText>& files = {}) {
  return parse_options(arguments, environment, names(), files);
}

inline Options parsed(std::vector<std::string> arguments, const Environment& environment = {}) {
  const auto result = parse(std::move(arguments), environment);
  EXPECT_TRUE(result.has_value()) << (result ? "" : result.error().message);
  return result ? result->options : Options{};
}

inline Error refused(std::vector<std::string> arguments, const Environment& environment = {}) {
  const auto result = parse(std::move(arguments), environment);
  EXPECT_FALSE(result.has_value());
  return result ? fail(Code::Assertion, "was accepted") : result.error();
}

}  // namespace bv::cli
