// Many wrong names with one cause: the config counts other layers or experts than there are.

#include <fmt/format.h>

#include <algorithm>
#include <map>

#include "core/base/text.hpp"
#include "core/model/name_gaps.hpp"
#include "core/model/resolve.hpp"

namespace bv::model {
namespace {

using Kind = NameGap::Kind;
using Numbers = std::set<std::int64_t>;
using Names = std::vector<std::string>;

/// What a part is called, and the config field that counts it.
struct PartName {
  std::string noun;   // "layer"
  std::string field;  // "num_hidden_layers"
  std::string says;   // "num_hidden_layers=6", with the reason when it is a default
  std::int64_t count = 0;
};

/// "layer 3 is", "layers 3-5 are".
std::string numbered(const PartName& part, const Numbers& numbers) {
  return numbers.size() == 1 ? fmt::format("{} {} is", part.noun, ranges_text(numbers))
                             : fmt::format("{}s {} are", part.noun, ranges_text(numbers));
}

/// Names of one part: how many the model wants, how many are wrong.
struct Tally {
  std::int64_t wanted = 0, parameters = 0;
  std::int64_t missing = 0, no_rule = 0, unused = 0;
  [[nodiscard]] bool is_missing() const { return wanted > 0 && missing == wanted; }
  [[nodiscard]] bool has_no_rule() const { return parameters > 0 && no_rule == parameters; }
  void add(Kind kind) {
    (kind == Kind::Missing ? missing : kind == Kind::NoRule ? no_rule : unused) += 1;
  }
};

/// The parts of one count that are wrong as a whole.
struct WrongParts {
  Numbers missing, beyond, no_rule;
  WrongParts(const std::map<std::int64_t, Tally>& tallies, std::int64_t count) {
    for (const auto& [number, tally] : tallies) {
      if (number >= count) {
        beyond.insert(number);
      } else if (tally.is_missing()) {
        missing.insert(number);
      } else if (tally.has_no_rule()) {
        no_rule.insert(number);
      }
    }
  }
};

class Repetitions {
 public:
  Repetitions(const Model& model, std::vector<NameGap>& gaps) : model_(model), gaps_(gaps) {}

  std::vector<NameFault> run() {
    for (const family::Section& section : model_.family->sections) {
      if (!section.variable.empty()) {
        layers(section);
      }
    }
    experts();
    return std::move(faults_);
  }

 private:
  [[nodiscard]] PartName part_of(std::string noun, const std::string& expression) const {
    PartName part;
    part.noun = std::move(noun);
    part.field = field_of(*model_.family, model_.geometry, expression);
    part.says = join(fields_behind(*model_.family, model_.geometry, expression), ", ");
    const auto count = family::evaluate(expression, model_.geometry.symbols);
    part.count = count ? *count : 0;
    return part;
  }

  void layers(const family::Section& section) {
    const std::string noun = section.stage == family::Stage::Mtp       ? "MTP layer"
                             : section.stage == family::Stage::Decoder ? "layer"
                                                                       : section.title + " block";
    const PartName part = part_of(noun, section.over);
    std::map<std::int64_t, Tally> tallies;
    for (const Mapping& mapping : model_.mappings) {
      if (&model_.family->sections[mapping.rule->section] == &section) {
        Tally& tally = tallies[mapping.index];
        tally.wanted += static_cast<std::int64_t>(mapping.hf.size());
        tally.parameters += model_.parameters_of(mapping);
      }
    }
    for (const NameGap& gap : gaps_) {
      if (gap.spot.section == &section) {
        tallies[gap.spot.index].add(gap.kind);
      }
    }
    const WrongParts wrong(tallies, part.count);
    const auto take = [&](const Numbers& numbers, Kind kind) {
      return take_names(gaps_, [&](const NameGap& gap) {
        return gap.kind == kind && gap.spot.section == &section && numbers.contains(gap.spot.index);
      });
    };
    report_count(part, wrong, take(wrong.missing, Kind::Missing), take(wrong.beyond, Kind::Unused));
    if (!wrong.no_rule.empty()) {
      const Names parameters = take(wrong.no_rule, Kind::NoRule);
      report_no_rule(part, section, wrong.no_rule, parameters, take(wrong.no_rule, Kind::Unused));
    }
  }

  void experts() {
    std::map<std::string, std::map<std::int64_t, Tally>> by_count;  // by the text of the count
    for (const Mapping& mapping : model_.mappings) {
      if (mapping.rule->per_expert) {
        by_count[mapping.rule->experts][mapping.expert].wanted +=
            static_cast<std::int64_t>(mapping.hf.size());
      }
    }
    const auto is_expert = [](const NameGap& gap) {
      return gap.spot.rule != nullptr && gap.spot.rule->per_expert;
    };
    for (const NameGap& gap : gaps_) {
      if (is_expert(gap)) {
        by_count[gap.spot.rule->experts][gap.spot.expert].add(gap.kind);
      }
    }
    for (const auto& [text, tallies] : by_count) {
      const PartName part = part_of("expert", text);
      const WrongParts wrong(tallies, part.count);
      const auto take = [&, &count = text](const Numbers& numbers, Kind kind) {
        return take_names(gaps_, [&](const NameGap& gap) {
          return gap.kind == kind && is_expert(gap) && gap.spot.rule->experts == count &&
                 numbers.contains(gap.spot.expert);
        });
      };
      report_count(part, wrong, take(wrong.missing, Kind::Missing),
                   take(wrong.beyond, Kind::Unused));
    }
  }

  void report_count(const PartName& part, const WrongParts& wrong, const Names& missing,
                    const Names& beyond) {
    if (missing.empty() && beyond.empty()) {
      return;
    }
    NameFault fault;
    fault.code = missing.empty() ? Code::HfTensorUnused : Code::HfTensorMissing;
    fault.subject = escaped(missing.empty() ? beyond.front() : missing.front());
    fault.subjects = missing;
    fault.subjects.insert(fault.subjects.end(), beyond.begin(), beyond.end());
    fault.wanted = fmt::format("{}: {}", counted(part.count, part.noun), part.says);
    if (beyond.empty()) {
      fault.message = fmt::format("{} missing: {}; config.json: {}", numbered(part, wrong.missing),
                                  tensors_text(missing), part.says);
      fault.found = fmt::format("{} of them in the checkpoint",
                                part.count - static_cast<std::int64_t>(wrong.missing.size()));
      fault.help = help_for(part, *wrong.missing.begin(), wrong.missing);
    } else if (missing.empty()) {
      fault.message = fmt::format("{} too many: {}; config.json: {}", numbered(part, wrong.beyond),
                                  tensors_text(beyond), part.says);
      fault.found = fmt::format("{}s up to {}", part.noun, *wrong.beyond.rbegin());
      fault.help = help_for(part, *wrong.beyond.rbegin() + 1, wrong.beyond);
    } else {
      fault.message = fmt::format(
          "{}s are numbered otherwise: {} missing, {} too many ({} and {}); config.json: {}",
          part.noun, ranges_text(wrong.missing), ranges_text(wrong.beyond), tensors_text(missing),
          tensors_text(beyond), part.says);
      fault.found = fmt::format("{}s up to {}", part.noun, *wrong.beyond.rbegin());
      fault.help = fmt::format("number them from 0 to {}, as transformers does", part.count - 1);
    }
    faults_.push_back(std::move(fault));
  }

  /// Another count explains the difference when the wrong numbers are the last ones.
  static std::string help_for(const PartName& part, std::int64_t count, const Numbers& wrong) {
    const bool one_run =
        *wrong.rbegin() - *wrong.begin() + 1 == static_cast<std::int64_t>(wrong.size());
    const bool last = *wrong.rbegin() + 1 == part.count || *wrong.begin() == part.count;
    if (!one_run || !last || count == 0) {
      return "check that the index and every shard of the checkpoint are there, and that "
             "config.json "
             "belongs to them";
    }
    return fmt::format(
        "if the model has {}, say so: --set {}={}; else use the files that belong to this "
        "config.json",
        counted(count, part.noun), part.field, count);
  }

  void report_no_rule(const PartName& part, const family::Section& section, const Numbers& numbers,
                      const Names& parameters, const Names& unread) {
    NameFault fault;
    fault.code = Code::MegatronParamWithoutRule;
    fault.subject = parameters.front();
    fault.subjects = parameters;
    fault.message = fmt::format(
        "no rule makes {} {}: {} {}{}; config.json: {}", part.noun, ranges_text(numbers),
        counted(parameters.size(), "Megatron parameter"), common_start(parameters),
        unread.empty() ? "" : fmt::format(", and {} are read by none", tensors_text(unread)),
        part.says);
    fault.found = fmt::format("no rule for {}", common_start(parameters));
    fault.wanted =
        fmt::format("rules for the {} {}s that config.json counts", part.count, part.noun);
    fault.help = fmt::format("add rules that make {}", common_start(parameters));
    if (section.stage == family::Stage::Mtp) {
      fault.help += ", or leave the MTP layers out with --drop-mtp";
    }
    faults_.push_back(std::move(fault));
  }

  const Model& model_;
  std::vector<NameGap>& gaps_;
  std::vector<NameFault> faults_;
};

}  // namespace

std::vector<NameFault> explain_repetitions(const Model& wanted, std::vector<NameGap>& gaps) {
  return Repetitions(wanted, gaps).run();
}

}  // namespace bv::model
