#include "ci/cli/session/two_models.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <iterator>
#include <nlohmann/json.hpp>

#include "ci/cli/session/fixture_model.hpp"
#include "core/checkpoint/config_text.hpp"
#include "core/compare/model_forms.hpp"
#include "core/io/writer.hpp"
#include "core/model/name_filter.hpp"
#include "core/quantised/quantised.hpp"
#include "properties/claims/copies.hpp"

namespace bv::cli {
namespace {

/// The type that --dtype states; nullopt: every tensor in its own.
std::optional<DType> stated_dtype(const Options& options) {
  const auto policy = plan::dtype_policy(options.dtype);
  return policy ? policy->params : std::nullopt;
}

std::optional<nlohmann::json> config_of(const ModelSide& side) {
  const std::filesystem::path file = side.folder / "config.json";
  const auto text = io::read_file(file, checkpoint::kConfigBytesMax, Code::ConfigField);
  auto config = text ? checkpoint::parse_config(*text, file.string())
                     : Result<nlohmann::json>(nlohmann::json());
  return config && config->is_object() ? std::optional(*std::move(config)) : std::nullopt;
}

std::optional<model::Model> model_of(const ModelSide& side, const nlohmann::json& config,
                                     const Library& library) {
  const auto family = model::choose_family(config, library.families);
  auto out = family ? model::resolve(*family, config, side.headers(), {})
                    : Result<model::Model>(family.error());
  return out ? std::optional(*std::move(out)) : std::nullopt;
}

bool same_names(const compare::Comparison& comparison) {
  return comparison.strays.empty() &&
         std::ranges::all_of(comparison.subjects,
                             [](const compare::Subject& one) { return one.found.has_value(); });
}

/// Of two models of which one alone is quantised: what compares their values.
void tell_quantised(const ModelSide& a, const ModelSide& b, std::vector<std::string>& notes) {
  const auto source_of = [](const ModelSide& side, const Headers& headers) {
    const auto config = config_of(side);
    return config ? quantised::find(headers, *config) : std::nullopt;
  };
  const Headers of_a = a.headers(), of_b = b.headers();
  const auto quantised_a = source_of(a, of_a);
  const auto quantised_b = source_of(b, of_b);
  if (quantised_a.has_value() == quantised_b.has_value()) {
    return;
  }
  const quantised::Source& source = quantised_a ? *quantised_a : *quantised_b;
  notes.push_back(
      fmt::format("{} holds {}, {} holds plain weights: {}", quantised_a ? "A" : "B",
                  quantised::summary(source), quantised_a ? "B" : "A",
                  quantised::can_dequantise(source)
                      ? "--dtype bfloat16 compares the values that they stand for"
                      : "their values are not compared, because no rule is known that gives them"));
}

}  // namespace

Result<ModelSide> open_side(Context& context, const Options& options, const std::string& reference,
                            const Library& library, Run& run) {
  Options one = options;
  one.model = reference;
  ModelSide out;
  if (stated_dtype(options)) {
    one.exclude.clear();  // leave_out takes it of both sides
    BV_TRY(opened, open_model(context, one, library));
    run.notes.insert(run.notes.end(), opened.notes.begin(), opened.notes.end());
    run.notes.insert(run.notes.end(), opened.hf.notes.begin(), opened.hf.notes.end());
    run.warnings.insert(run.warnings.end(), opened.warnings.begin(), opened.warnings.end());
    if (!opened.hf.checkpoint) {
      return fail(Code::ModelNotFound,
                  fmt::format("{} is headers only: there are no bytes to compare", reference))
          .advise("give the directory with the weights");
    }
    out.folder = opened.hf.folder;
    out.model = opened.hf.model;
    out.opened = std::make_unique<OpenedModel>(std::move(opened));
    return out;
  }
  BV_TRY(model, find_model(context, one));
  const io::LocatedModel& located = model.located;
  out.keeps = model.keeps;
  if (located.kind != io::ModelKind::SafetensorsFile && located.kind != io::ModelKind::IndexFile) {
    BV_CHECK(io::require_hf(located));
  }
  BV_TRY(checkpoint, io::Checkpoint::open(
                         located.kind == io::ModelKind::ConfigFile ? located.folder : located.path,
                         options.strict));
  tell_findings(checkpoint, run.notes, run.warnings);
  out.files = std::move(checkpoint);
  out.folder = located.folder;
  return out;
}

void find_models(const Library& library, ModelSide& a, ModelSide& b) {
  const auto of_a = config_of(a);
  const auto of_b = config_of(b);
  if (!a.model && (of_a || of_b)) {
    a.model = model_of(a, of_a ? *of_a : *of_b, library);
  }
  if (!b.model && (of_a || of_b)) {
    b.model = model_of(b, of_b ? *of_b : *of_a, library);
  }
}

compare::Comparison compare_models(const Options& options, const Library& library,
                                   const ModelSide& a, const ModelSide& b,
                                   std::vector<std::string>& notes) {
  const auto add = [&notes](const std::vector<std::string>& more) {
    notes.insert(notes.end(), more.begin(), more.end());
  };
  const Headers of_a = a.headers(), of_b = b.headers();
  const plan::DtypePolicy policy{stated_dtype(options)};
  auto out = compare::compare_hf(a.checkpoint(), of_a, b.checkpoint(), of_b);
  if (!a.model || !b.model) {
    return out;
  }
  if (!same_names(out) && a.model->tied == b.model->tied) {
    add(compare::compare_copies(a.checkpoint(), a.model->must_equal, b.checkpoint(),
                                b.model->must_equal, out));
  }
  if (policy.params) {
    compare::cast_wanted({&a.checkpoint(), &of_a, &*a.model}, policy, out);
  } else if (!same_names(out)) {
    tell_quantised(a, b, notes);
  }
  add(compare::compare_forms({&a.checkpoint(), &of_a, &*a.model},
                             {&b.checkpoint(), &of_b, &*b.model}, library.kinds, policy, out));
  return out;
}

std::vector<Verdict> copies_of(const io::TensorStore& store, const compare::Copies& copies,
                               std::string_view side) {
  std::vector<Verdict> out = claims::judge_copies(&store, copies);
  for (Verdict& verdict : out) {
    if (side.empty()) {
      continue;
    }
    verdict.rule = fmt::format("{}:{}", verdict.rule, side);
    if (!verdict.title.empty()) {
      verdict.title = fmt::format("{} of {}", verdict.title, side);
    }
  }
  return out;
}

std::vector<Verdict> copies_of(const Options& options, const ModelSide& a, const ModelSide& b) {
  Headers all = a.headers();
  all.merge(b.headers());
  const auto names = model::excluded_names({{}, options.exclude}, all);
  std::vector<Verdict> out;
  for (const auto& [side, name] : {std::pair(&a, "A"), std::pair(&b, "B")}) {
    compare::Copies copies;
    if (side->model) {
      copies = side->model->must_equal;
    }
    std::erase_if(copies, [&](const auto& one) {
      return names && (names->contains(one.first) || names->contains(one.second));
    });
    std::ranges::move(copies_of(side->checkpoint(), copies, name), std::back_inserter(out));
  }
  return out;
}

}  // namespace bv::cli
