#include "core/model/one_sided.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <cctype>

#include "core/base/shell.hpp"
#include "core/base/text.hpp"

namespace bv::model {
namespace {

using Names = std::vector<std::string>;

/// The names of one reason, in the order of the family.
struct Reason {
  const family::OneSided* row = nullptr;  // the first
  Names there, missing;                   // HF tensors
  Names parameters, would_fill;  // Megatron parameters, and the HF names that are not there
};

/// "model.layers.*.mlp.up_proj.bias", each pattern once.
Names patterns_of(const Names& names) {
  Names out;
  for (const std::string& name : names) {
    std::string pattern;
    for (const char c : name) {
      const bool digit = c >= '0' && c <= '9';
      const bool inside =
          !pattern.empty() && std::isalpha(static_cast<unsigned char>(pattern.back())) != 0;
      if (!digit || inside) {
        pattern += c;  // "conv1d" is a word
      } else if (pattern.empty() || pattern.back() != '*') {
        pattern += '*';
      }
    }
    if (std::ranges::find(out, pattern) == out.end()) {
      out.push_back(std::move(pattern));
    }
  }
  return out;
}

/// "HF tensor lm_head.bias", "8 HF tensors model.layers.*.mlp.up_proj.bias".
std::string counted_names(const Names& names, std::string_view noun) {
  return names.size() == 1 ? fmt::format("{} {}", noun, escaped(names.front()))
                           : fmt::format("{} {}s {}", thousands(std::ssize(names)), noun,
                                         escaped(join(patterns_of(names), ", ")));
}

class OneSided {
 public:
  OneSided(const family::Section& section, std::int64_t count, const ResolveOptions& options,
           Ledger& ledger, Model& model)
      : section_(section), count_(count), options_(options), ledger_(ledger), model_(model) {}

  Status run() {
    for (const family::OneSided& row : section_.one_sided) {
      if (occurs(*model_.family, section_, row.rule.when, model_.geometry, count_)) {
        BV_CHECK(collect(row));
      }
    }
    for (const Reason& reason : reasons_) {
      add_there(reason);
      add_missing(reason);
      add_parameters(reason);
    }
    return Done{};
  }

 private:
  Status collect(const family::OneSided& one_sided) {
    const family::Rule& row = one_sided.rule;
    BoundSection bound{&section_, count_, {BoundRow{&row, {}, 1}}};
    BV_TRY(name, BoundName::bind(row.hf.front().second, section_, model_));
    bound.rows.front().hf.push_back(std::move(name));
    if (row.per_expert) {
      BV_TRY(experts, family::evaluate_at(row.source, row.experts, model_.geometry.symbols));
      bound.rows.front().experts = experts;
    }
    Reason& reason = reason_of(one_sided);
    return for_each_name(
        model_, bound, [](const BoundRow&) { return true; },
        [&](const BoundRow&, const NamePlace& place, std::string&& hf) {
          take(row, place, std::move(hf), reason);
        });
  }

  Reason& reason_of(const family::OneSided& row) {
    const auto same = std::ranges::find_if(reasons_, [&](const Reason& one) {
      return one.row->because == row.because &&
             one.row->rule.megatron.empty() == row.rule.megatron.empty();
    });
    return same == reasons_.end() ? reasons_.emplace_back(Reason{&row, {}, {}, {}, {}}) : *same;
  }

  void take(const family::Rule& row, const NamePlace& place, std::string hf, Reason& reason) {
    const bool there = ledger_.find(hf) != nullptr;
    if (row.kind == family::kUnread) {
      if (there && ledger_.claim(hf, Ledger::kExplained) == Ledger::kUnused &&
          is_asked_for(options_, hf)) {
        leave_out(hf, reason.row->because, model_);
      }
    } else if (!is_asked_for(options_, hf) || options_.left_out.contains(hf)) {
      ledger_.explain(hf);
    } else if (row.megatron.empty()) {
      ledger_.explain(hf);
      (there ? reason.there : reason.missing).push_back(std::move(hf));
    } else if (!there) {  // else the config denies a tensor that is there, which is said of it
      const Mapping mapping{&row,
                            section_.stage,
                            section_.variable.empty() ? -1 : place.index,
                            row.per_expert ? place.expert : -1,
                            {}};
      reason.parameters.push_back(model_.megatron_name(mapping));
      reason.would_fill.push_back(std::move(hf));
    }
  }

  /// "attention_bias=1": what the config says that makes the sides differ; of kinds of layers,
  /// where they come from.
  [[nodiscard]] std::string fields_of(const family::Rule& row) const {
    Names out;
    Names kinds;
    for (const std::string& word : row.when) {
      const std::string_view symbol =
          word.starts_with('!') ? std::string_view(word).substr(1) : std::string_view(word);
      if (!model_.family->is_layer_flag(symbol)) {
        for (std::string& field : fields_behind(*model_.family, model_.geometry, symbol)) {
          out.push_back(std::move(field));
        }
        continue;
      }
      const auto origin = model_.geometry.origin.find(std::string(symbol));
      const auto said = [&](const std::string& kind) { return kind.starts_with(origin->second); };
      if (origin != model_.geometry.origin.end() && std::ranges::none_of(kinds, said)) {
        kinds.push_back(origin->second);
      }
    }
    return join(out.empty() ? kinds : out, ", ");
  }

  NameFault fault(Code code, const Names& subjects) const {
    NameFault out;
    out.code = code;
    out.subject = escaped(subjects.front());
    out.subjects = subjects;
    return out;
  }

  void add_there(const Reason& reason) {
    if (reason.there.empty()) {
      return;
    }
    NameFault out = fault(Code::HfTensorUnused, reason.there);
    out.message =
        fmt::format("{} {} no place in Megatron: {}", counted_names(reason.there, "HF tensor"),
                    reason.there.size() == 1 ? "has" : "have", reason.row->because);
    out.found =
        fmt::format("{} {}", out.subject, shape_text(ledger_.find(reason.there.front())->shape));
    out.wanted = "a Megatron parameter for every tensor of the checkpoint";
    Names globs;
    for (const std::string& pattern : patterns_of(reason.there)) {
      globs.push_back("--exclude " + shell_quoted(pattern));
    }
    out.help = fmt::format(
        "Megatron cannot hold this model whole; {} leaves them out, and the "
        "model then computes something else",
        join(globs, " "));
    model_.faults.push_back(std::move(out));
  }

  void add_missing(const Reason& reason) {
    if (reason.missing.empty()) {
      return;
    }
    NameFault out = fault(Code::HfTensorMissing, reason.missing);
    const bool one = reason.missing.size() == 1;
    out.message = fmt::format("config.json asks for {} ({}), which {} no place in Megatron{}: {}",
                              counted_names(reason.missing, "HF tensor"),
                              fields_of(reason.row->rule), one ? "has" : "have",
                              options_.config_only ? ""
                              : one                ? " and is not there"
                                                   : " and are not there",
                              reason.row->because);
    out.found = fields_of(reason.row->rule);
    out.wanted = "a config without them";
    out.help = "use the config.json that belongs to these files, or overrule the field with --set";
    model_.faults.push_back(std::move(out));
  }

  void add_parameters(const Reason& reason) {
    if (reason.parameters.empty()) {
      return;
    }
    NameFault out = fault(Code::MegatronParamUnfilled, reason.parameters);
    out.message = fmt::format("{} {} no HF tensor ({}): {}",
                              counted_names(reason.parameters, "Megatron parameter"),
                              reason.parameters.size() == 1 ? "has" : "have",
                              fields_of(reason.row->rule), reason.row->because);
    out.found = fmt::format("no HF tensor {}", escaped(join(patterns_of(reason.would_fill), ", ")));
    out.wanted = "an HF tensor for every Megatron parameter";
    out.help = "Megatron cannot be without them; take a model that has such tensors";
    model_.faults.push_back(std::move(out));
  }

  const family::Section& section_;
  std::int64_t count_;
  const ResolveOptions& options_;
  Ledger& ledger_;
  Model& model_;
  std::vector<Reason> reasons_;
};

}  // namespace

bool is_told_one_sided(const family::Section& section, const Mapping& mapping, const Model& model) {
  return std::ranges::any_of(section.one_sided, [&](const family::OneSided& row) {
    if (row.rule.megatron != mapping.rule->megatron) {
      return false;
    }
    const auto flags = section_flags(section, model.geometry, mapping.index);
    return family::holds(*model.family, row.rule.when, {&model.geometry.symbols, &flags});
  });
}

Status add_one_sided_faults(const family::Section& section, std::int64_t count,
                            const ResolveOptions& options, Ledger& ledger, Model& model) {
  return OneSided(section, count, options, ledger, model).run();
}

}  // namespace bv::model
