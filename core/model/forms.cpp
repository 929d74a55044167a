// Storage alternatives: the same parameters stored under other names (packed or per expert) or in
// another orientation. Names decide between forms; shapes decide between forms of equal names.

#include <fmt/format.h>

#include <algorithm>

#include "core/base/text.hpp"
#include "core/model/resolve.hpp"

namespace bv::model {
namespace {

/// Forms that use the same names.
struct FormClass {
  std::vector<std::string> forms;  // in order of preference
  std::set<std::string> patterns;
  std::set<std::string> own_patterns;  // those that no other class has: only they are evidence
  std::int64_t present = 0;
  std::string example;
};

using RowsOfForms = std::map<std::string, std::vector<const BoundRow*>>;

std::set<std::string> patterns_of(const std::vector<const BoundRow*>& rows) {
  std::set<std::string> out;
  for (const BoundRow* row : rows) {
    for (const BoundName& name : row->hf) {
      out.insert(name.pattern());
    }
  }
  return out;
}

class FormChooser {
 public:
  FormChooser(const BoundSection& bound, Ledger& ledger, const ResolveOptions& options,
              Model& model)
      : bound_(bound), ledger_(ledger), options_(options), model_(model) {}

  Status choose(const std::string& group, FormChoice& out) {
    RowsOfForms rows;
    std::vector<std::string> order;
    for (const BoundRow& row : bound_.rows) {
      if (row.rule->form_group == group) {
        if (!rows.contains(row.rule->form)) {
          order.push_back(row.rule->form);
        }
        rows[row.rule->form].push_back(&row);
      }
    }
    if (const auto wanted = bound_.section->forms.find(group);
        wanted != bound_.section->forms.end()) {
      std::erase_if(order, [&](const std::string& form) {
        return !std::count(wanted->second.begin(), wanted->second.end(), form);
      });
      std::stable_sort(order.begin(), order.end(), [&](const std::string& a, const std::string& b) {
        return std::find(wanted->second.begin(), wanted->second.end(), a) <
               std::find(wanted->second.begin(), wanted->second.end(), b);
      });
    }
    const std::string what = fmt::format("{}_{}", bound_.section->title, group);
    BV_TRY(stated, stated_form(options_, what, order));
    if (stated != nullptr) {
      out.chosen[group] = *stated;
      model_.detected.push_back({what, *stated, "stated by the caller"});
      return Done{};
    }
    std::vector<FormClass> classes = classes_of(order, rows);
    BV_CHECK(count_names(group, classes));
    FormClass& best = *std::max_element(
        classes.begin(), classes.end(),
        [](const FormClass& a, const FormClass& b) { return a.present < b.present; });
    if (std::count_if(classes.begin(), classes.end(),
                      [](const FormClass& row) { return row.present > 0; }) > 1) {
      report_mixture(group, classes);
      out.mixed.insert(group);
      BV_CHECK(explain_names(group));
    }
    std::string because = best.present > 0 ? fmt::format("{} is there", best.example)
                                           : std::string("first choice: no such tensors seen");
    BV_TRY(form, best.forms.size() == 1 || best.present == 0
                     ? Result<std::string>(best.forms.front())
                     : by_shape(best, because));
    out.chosen[group] = form;
    if (order.size() > 1) {
      model_.detected.push_back({what, form, because});
    }
    return Done{};
  }

 private:
  static std::vector<FormClass> classes_of(const std::vector<std::string>& order,
                                           const RowsOfForms& rows) {
    std::vector<FormClass> classes;
    for (const std::string& form : order) {
      std::set<std::string> patterns = patterns_of(rows.at(form));
      const auto same = std::find_if(classes.begin(), classes.end(), [&](const FormClass& row) {
        return row.patterns == patterns;
      });
      if (same != classes.end()) {
        same->forms.push_back(form);
      } else {
        classes.push_back({{form}, patterns, patterns, 0, ""});
      }
    }
    for (FormClass& row : classes) {
      for (const FormClass& other : classes) {
        if (&other != &row) {
          for (const std::string& pattern : other.patterns) {
            row.own_patterns.erase(pattern);
          }
        }
      }
    }
    return classes;
  }

  /// Names of the section that are there, by class.
  Status count_names(const std::string& group, std::vector<FormClass>& classes) {
    for (FormClass& row_class : classes) {
      const std::string& form = row_class.forms.front();
      BV_CHECK(for_each_name(
          model_, bound_,
          [&](const BoundRow& row) {
            return row.rule->form_group == group && row.rule->form == form;
          },
          [&](const BoundRow& row, const NamePlace& place, std::string&& name) {
            if (row_class.own_patterns.contains(row.hf[place.slot].pattern()) &&
                ledger_.find(name) != nullptr) {
              row_class.example = row_class.present == 0 ? name : row_class.example;
              ++row_class.present;
            }
          }));
    }
    return Done{};
  }

  void report_mixture(const std::string& group, const std::vector<FormClass>& classes) {
    NameFault fault;
    fault.code = Code::ExpertStorageMismatch;
    std::vector<std::string> names;
    for (const FormClass& row : classes) {
      if (row.present > 0) {
        fault.subject = row.example;
        names.push_back(fmt::format("{} ({}, {})", row.example, row.forms.front(),
                                    counted(row.present, "tensor")));
      }
    }
    fault.message = fmt::format("{} of the section {} are stored in {} forms at once: {}", group,
                                bound_.section->title, names.size(), join(names, " and "));
    fault.found = join(names, " and ");
    fault.wanted = "one form for all layers of the section, and all tensors of it";
    fault.help =
        "re-save the checkpoint in one form; the tensors of the other are left over or half "
        "converted";
    model_.faults.push_back(std::move(fault));
  }

  /// After a mixture was reported, its names are accounted for.
  Status explain_names(const std::string& group) {
    return for_each_name(
        model_, bound_, [&](const BoundRow& row) { return row.rule->form_group == group; },
        [&](const BoundRow&, const NamePlace&, std::string&& name) { ledger_.explain(name); });
  }

  /// What the shapes of one class say about its forms.
  struct ShapeEvidence {
    std::map<std::string, std::string> only;  // form -> a tensor that fits no other form
    std::string square, square_shape;         // a tensor that fits several
    std::string source;
  };

  Result<std::string> by_shape(const FormClass& row_class, std::string& because) {
    BV_TRY(evidence, shapes_of(row_class));
    if (evidence.only.size() > 1) {
      report_disagreement(evidence);
    }
    std::string form =
        evidence.only.empty() ? row_class.forms.front() : evidence.only.begin()->first;
    if (!evidence.only.empty()) {
      because = fmt::format("the shape of {}", evidence.only.begin()->second);
    }
    const std::string declared = declared_form(row_class);
    if (!evidence.square.empty()) {
      if (declared.empty()) {
        report_square(row_class, evidence);
      } else {
        form = evidence.only.empty() ? declared : form;
        because = fmt::format("declared: expert orientation {}", text(options_.expert_orientation));
      }
    }
    if (!declared.empty() && !evidence.only.empty() && !evidence.only.contains(declared)) {
      report_wrong_declaration(evidence);
    }
    return form;
  }

  /// The form that --expert-orientation names, "" without one.
  std::string declared_form(const FormClass& row_class) const {
    for (const BoundRow& row : bound_.rows) {
      if (options_.expert_orientation != family::Orientation::ByShape &&
          row.rule->orientation == options_.expert_orientation &&
          std::count(row_class.forms.begin(), row_class.forms.end(), row.rule->form)) {
        return row.rule->form;
      }
    }
    return "";
  }

  Result<ShapeEvidence> shapes_of(const FormClass& row_class) {
    // pattern -> (form, shape) of every form; the symbols make it concrete once.
    std::map<std::string, std::vector<std::pair<std::string, Shape>>> wanted;
    for (const BoundRow& row : bound_.rows) {
      for (std::size_t slot = 0; slot < row.hf.size(); ++slot) {
        const auto extents = row.rule->shapes.find(row.rule->hf[slot].first);
        if (extents == row.rule->shapes.end() ||
            !std::count(row_class.forms.begin(), row_class.forms.end(), row.rule->form)) {
          continue;
        }
        Shape shape;
        for (const std::string& extent : extents->second) {
          BV_TRY(number, family::evaluate_at(row.rule->source, extent,
                                             model_.geometry.with(row.rule->sizes)));
          shape.push_back(number);
        }
        wanted[row.hf[slot].pattern()].emplace_back(row.rule->form, std::move(shape));
      }
    }
    ShapeEvidence evidence;
    BV_CHECK(for_each_name(
        model_, bound_,
        [&](const BoundRow& row) { return row.rule->form == row_class.forms.front(); },
        [&](const BoundRow& row, const NamePlace& place, std::string&& name) {
          const TensorSpec* tensor = ledger_.find(name);
          const auto shapes = wanted.find(row.hf[place.slot].pattern());
          if (tensor != nullptr && shapes != wanted.end()) {
            weigh(*tensor, shapes->second, evidence);
          }
        }));
    return evidence;
  }

  static void weigh(const TensorSpec& tensor,
                    const std::vector<std::pair<std::string, Shape>>& wanted,
                    ShapeEvidence& evidence) {
    std::vector<std::string> fits;
    for (const auto& [form, shape] : wanted) {
      if (shape == tensor.shape) {
        fits.push_back(form);
      }
    }
    if (fits.size() == 1) {
      evidence.only.try_emplace(fits.front(),
                                fmt::format("{} {}", tensor.name, shape_text(tensor.shape)));
    } else if (fits.size() > 1 && evidence.square.empty()) {
      evidence.square = tensor.name;
      evidence.square_shape = shape_text(tensor.shape);
    }
  }

  void report_square(const FormClass& row_class, const ShapeEvidence& evidence) {
    NameFault fault;
    fault.code = Code::AmbiguousTranspose;
    fault.subject = evidence.square;
    fault.message =
        fmt::format("{} {} fits both orientations, so its shape does not tell rows from columns",
                    evidence.square, evidence.square_shape);
    fault.found = fmt::format("{}, equal in the forms {}", evidence.square_shape,
                              join(row_class.forms, " and "));
    fault.wanted = "a declared orientation: out_in or in_out";
    fault.help =
        "give --expert-orientation out_in (re-saved by transformers 5) or --expert-orientation "
        "in_out (as published)";
    if (!evidence.only.empty()) {
      fault.help += fmt::format("; {} fits the form {} only", evidence.only.begin()->second,
                                evidence.only.begin()->first);
    }
    model_.faults.push_back(std::move(fault));
  }

  void report_disagreement(const ShapeEvidence& evidence) {
    NameFault fault;
    fault.code = Code::ExpertStorageMismatch;
    std::vector<std::string> names;
    for (const auto& [form, tensor] : evidence.only) {
      names.push_back(fmt::format("{} ({})", tensor, form));
    }
    fault.subject = evidence.only.begin()->second;
    fault.message = fmt::format("expert stacks of the section {} have different orientations: {}",
                                bound_.section->title, join(names, " and "));
    fault.found = join(names, " and ");
    fault.wanted = "one orientation for all stacks";
    fault.help = "re-save the checkpoint with one version of its library";
    model_.faults.push_back(std::move(fault));
  }

  void report_wrong_declaration(const ShapeEvidence& evidence) {
    NameFault fault;
    fault.code = Code::ShapeMismatch;
    fault.subject = evidence.only.begin()->second;
    fault.message =
        fmt::format("--expert-orientation {} contradicts {}, which fits the form {} only",
                    text(options_.expert_orientation), evidence.only.begin()->second,
                    evidence.only.begin()->first);
    fault.found = evidence.only.begin()->first;
    fault.wanted = text(options_.expert_orientation);
    fault.help = "leave the option out: the shapes decide";
    model_.faults.push_back(std::move(fault));
  }

  const BoundSection& bound_;
  Ledger& ledger_;
  const ResolveOptions& options_;
  Model& model_;
};

}  // namespace

Result<const std::string*> stated_form(const ResolveOptions& options, const std::string& what,
                                       const std::vector<std::string>& choices) {
  const auto stated = options.forms.find(what);
  if (!options.config_only || stated == options.forms.end()) {
    return static_cast<const std::string*>(nullptr);
  }
  if (std::find(choices.begin(), choices.end(), stated->second) == choices.end()) {
    return fail(Code::RulesInvalid, fmt::format("{} cannot be {}", what, escaped(stated->second)))
        .pair(escaped(stated->second), "one of: " + join(choices, " "))
        .advise("state one of them");
  }
  return &stated->second;
}

Result<FormChoice> choose_forms(const BoundSection& bound, Ledger& ledger,
                                const ResolveOptions& options, Model& model) {
  FormChoice out;
  for (const BoundRow& row : bound.rows) {
    if (!row.rule->form_group.empty() && !out.chosen.contains(row.rule->form_group)) {
      BV_CHECK(FormChooser(bound, ledger, options, model).choose(row.rule->form_group, out));
    }
  }
  return out;
}

}  // namespace bv::model
