#pragma once
// The weaker layers of options: environment and settings files, as lists of values.

#include <span>
#include <string>
#include <vector>

#include "ci/cli/options/options.hpp"

namespace bv::cli {

/// One option in one layer. `texts` holds several values where the option may be repeated.
struct LayerEntry {
  const OptionSpec* spec = nullptr;
  std::vector<std::string> texts;
  Origin origin = Origin::File;
  std::string written;  // "BRIDGE_VERIFY_TP=2", "tp in bridge-verify.toml:3:1"
  std::string place;    // "bridge-verify.toml:3:1", "" for the environment
};

/// The BRIDGE_VERIFY_ variables that name options; the others become notes.
/// Errors: Conflict when two variables name one option; BadValue for one that would answer in place
/// of the command (--help, --version).
[[nodiscard]] Result<std::vector<LayerEntry>> environment_layer(const Environment& environment,
                                                                std::vector<std::string>& notes);

/// The keys of a settings file: long option names. A list is several values, or one value whose
/// parts are joined by commas, as the option takes it.
/// Errors: BadSettings with line and column: not TOML, an unknown key (with the nearest), an option
/// that no settings file may say, a value of another type, one option under two names.
[[nodiscard]] Result<std::vector<LayerEntry>> settings_layer(const SettingsText& file);

}  // namespace bv::cli
