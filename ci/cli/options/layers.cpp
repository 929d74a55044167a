#include "ci/cli/options/layers.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <cctype>

#include "core/base/text.hpp"
#include "core/base/toml.hpp"

namespace bv::cli {
namespace {

constexpr std::string_view kPrefix = "BRIDGE_VERIFY_";

/// What answers in place of every check: a variable that is set for something else may not.
constexpr std::array<std::string_view, 2> kNeverInEnvironment = {"help", "version"};

/// What a file may not decide for whoever happens to stand in its folder: to delete an output.
constexpr std::array<std::string_view, 4> kNeverInFiles = {"help", "version", "overwrite",
                                                           "resume"};

/// A value as a file would hold it.
std::string_view example_of(const OptionSpec& spec) {
  return spec.form == Form::Sizes ? "1,2" : spec.value.substr(0, spec.value.find('|'));
}

const LayerEntry* entry_of(const std::vector<LayerEntry>& entries, const OptionSpec* spec) {
  const auto found = std::find_if(entries.begin(), entries.end(),
                                  [spec](const LayerEntry& one) { return one.spec == spec; });
  return found == entries.end() ? nullptr : &*found;
}

std::vector<std::string> setting_names() {
  std::vector<std::string> out;
  for (const OptionSpec& spec : option_specs()) {
    if (spec.listed &&
        std::find(kNeverInFiles.begin(), kNeverInFiles.end(), spec.name) == kNeverInFiles.end()) {
      out.emplace_back(spec.name);
    }
  }
  return out;
}

/// One file, key by key.
class SettingsFile {
 public:
  explicit SettingsFile(const SettingsText& file) : file_(file) {}

  Result<std::vector<LayerEntry>> read() {
    BV_TRY(table, toml::parse(file_.text, file_.path, Code::BadSettings));
    for (const toml::Entry& entry : table) {
      BV_CHECK(add(entry));
    }
    return std::move(entries_);
  }

 private:
  [[nodiscard]] std::string place(toml::Place at) const { return toml::place_text(file_.path, at); }

  Status add(const toml::Entry& entry) {
    const std::vector<std::string> names = setting_names();
    const OptionSpec* spec = find_option(entry.key);
    if (spec == nullptr || std::find(names.begin(), names.end(), spec->name) == names.end()) {
      const auto near = nearest(entry.key, names);
      return fail(Code::BadSettings,
                  fmt::format("\"{}\" {}", escaped(entry.key),
                              spec == nullptr ? "is not a setting"
                                              : "can only be given on the command line"))
          .at(place(entry.at))
          .advise(spec != nullptr ? "remove the line"
                  : near          ? fmt::format("did you mean {}?", *near)
                                  : "bridge-verify config show lists every setting");
    }
    if (const LayerEntry* before = entry_of(entries_, spec)) {
      return fail(Code::BadSettings, fmt::format("{} is set twice", spec->name))
          .at(place(entry.at))
          .pair(fmt::format("{} and {}", before->written, place(entry.at)), "one value")
          .advise("keep one of the two");
    }
    BV_TRY(texts, texts_of(*spec, entry));
    entries_.push_back({spec, std::move(texts), Origin::File,
                        fmt::format("{} in {}", entry.key, place(entry.at)), place(entry.at)});
    return Done{};
  }

  Result<std::vector<std::string>> texts_of(const OptionSpec& spec, const toml::Entry& entry) {
    const toml::Array* list = entry.value.as<toml::Array>();
    const bool lists = repeats(spec.form) || spec.form == Form::Sizes || spec.form == Form::Names;
    if (list == nullptr || !lists) {
      BV_TRY(text, text_of(spec, entry.key, entry.value));
      return std::vector<std::string>{text};
    }
    std::vector<std::string> texts;
    for (const toml::Value& value : *list) {
      BV_TRY(text, text_of(spec, entry.key, value));
      texts.push_back(text);
    }
    if (repeats(spec.form)) {
      return texts;
    }
    return std::vector<std::string>{join(texts, ",")};
  }

  Result<std::string> text_of(const OptionSpec& spec, const std::string& key,
                              const toml::Value& value) {
    const bool flag = spec.form == Form::Flag;
    const bool number = spec.form == Form::Positive || spec.form == Form::Unsigned ||
                        spec.form == Form::Sizes || spec.form == Form::Count;
    if (const bool* truth = value.as<bool>(); truth != nullptr && flag) {
      return std::string(*truth ? "1" : "0");
    }
    if (const auto* whole = value.as<std::int64_t>(); whole != nullptr && number) {
      return std::to_string(*whole);
    }
    if (const auto* text = value.as<std::string>(); text != nullptr && !flag) {
      return *text;
    }
    return fail(Code::BadSettings, fmt::format("{} cannot be {}", escaped(key), value.kind()))
        .at(place(value.at))
        .pair(std::string(value.kind()), flag     ? "true or false"
                                         : number ? "a whole number, or text as on the command line"
                                                  : "a string")
        .advise(flag ? fmt::format("write {} = true", key)
                : spec.form == Form::Count
                    ? fmt::format("write {} = 1, or {} = 2 for more", key, key)
                : number && spec.form != Form::Sizes
                    ? fmt::format("write {} = 1", key)
                    : fmt::format("write {} = \"{}\"", key, example_of(spec)));
  }

  const SettingsText& file_;
  std::vector<LayerEntry> entries_;
};

}  // namespace

Result<std::vector<LayerEntry>> environment_layer(const Environment& environment,
                                                  std::vector<std::string>& notes) {
  std::vector<LayerEntry> out;
  for (const auto& [variable, value] : environment) {
    if (!variable.starts_with(kPrefix)) {
      continue;
    }
    std::string name = variable.substr(kPrefix.size());
    std::transform(name.begin(), name.end(), name.begin(),
                   [](unsigned char c) { return static_cast<char>(std::tolower(c)); });
    const OptionSpec* spec = find_option(name);
    if (spec == nullptr) {
      notes.push_back(fmt::format("environment variable {} names no option and is not used",
                                  escaped(variable)));
      continue;
    }
    if (!spec->not_built.empty()) {
      notes.push_back(
          fmt::format("environment variable {} is not used: --{} is not built into "
                      "this version",
                      escaped(variable), spec->name));
      continue;
    }
    const std::string written = fmt::format("{}={}", variable, value);
    if (std::find(kNeverInEnvironment.begin(), kNeverInEnvironment.end(), spec->name) !=
        kNeverInEnvironment.end()) {
      return fail(Code::BadValue, fmt::format("--{} can only be given on the command line: {}",
                                              spec->name, escaped(written)))
          .advise(fmt::format("unset {}: with it nothing would be checked", escaped(variable)));
    }
    if (const LayerEntry* before = entry_of(out, spec)) {
      return fail(Code::Conflict, fmt::format("--{} is given twice: {} and {}", spec->name,
                                              escaped(before->written), escaped(written)))
          .advise("keep one of the two");
    }
    out.push_back({spec, {value}, Origin::Environment, written, ""});
  }
  return out;
}

Result<std::vector<LayerEntry>> settings_layer(const SettingsText& file) {
  return SettingsFile(file).read();
}

}  // namespace bv::cli
