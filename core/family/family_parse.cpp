#include "core/family/family_parse.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <set>

#include "core/base/text.hpp"
#include "core/family/expression.hpp"
#include "core/family/family_fields.hpp"
#include "core/family/family_parts.hpp"
#include "core/family/symbols.hpp"

namespace bv::family {
namespace {

constexpr const char* kBuffers = "buffers";  // the table that every family ignores
constexpr std::string_view kOwnChoice = "tensors that the family file leaves out";

class FamilyParser {
 public:
  explicit FamilyParser(Tables tables) : tables_(std::move(tables)) {}

  Result<FamilyPtr> run(const JsonPlace& top) {
    BV_CHECK(top.only({"schema",
                       "family",
                       "doc",
                       "architectures",
                       "model_types",
                       "class_of",
                       "config",
                       "include",
                       "symbols",
                       "layer_flags",
                       "must",
                       "prefixes",
                       "ignore_hf",
                       "unsupported",
                       "tables",
                       "facts",
                       "carried",
                       "sections",
                       "peft_moves_experts",
                       "peft_stacks",
                       "layer_sizes",
                       "class_modules"}));
    BV_TRY(schema, top.at("schema"));
    BV_TRY(schema_text, schema.text());
    if (schema_text != "bridge-family/1") {
      return schema.error("this schema is not known", escaped(schema_text), "bridge-family/1");
    }
    BV_CHECK(head(top));
    BV_CHECK(own_tables(top));
    BV_CHECK(symbols_of(top, true));
    BV_TRY(include, top.texts_or_none("include"));
    for (const std::string& name : include) {
      BV_TRY(table, table_named(name, top));
      BV_CHECK(facts_once(name, table));
    }
    BV_CHECK(facts_of(top));
    BV_CHECK(lists(top));
    if (const auto facts = top.find("facts")) {
      BV_TRY(stated, parse_stated_facts(*facts));
      family_->stated = stated;
    }
    BV_CHECK(list_of(top, "carried", parse_carried, family_->carried));
    BV_CHECK(list_of(top, "layer_sizes", parse_layer_size, family_->layer_sizes));
    BV_TRY(sections, top.at("sections"));
    BV_TRY(items, sections.items());
    for (const JsonPlace& item : items) {
      BV_CHECK(section(item));
    }
    number_rules();
    BV_CHECK(check_family(*family_));
    return FamilyPtr(family_);
  }

 private:
  Status head(const JsonPlace& top) {
    BV_TRY(name, top.at("family"));
    BV_TRY(name_text, parse_family_name(name));
    BV_TRY(doc, top.text_or("doc", ""));
    BV_TRY(architectures, top.texts_or_none("architectures"));
    BV_TRY(model_types, top.texts_or_none("model_types"));
    family_->name = name_text, family_->doc = doc, family_->file = top.file();
    family_->architectures = architectures;
    family_->model_types = model_types;
    BV_CHECK(parse_class_facts(top, *family_));
    BV_TRY(class_of, top.texts_or_none("class_of"));
    family_->class_of = class_of;
    if (architectures.empty() && model_types.empty()) {
      return top.error("a family answers to no architecture",
                       "neither architectures nor model_types", "at least one name");
    }
    if (const auto config = top.find("config")) {
      BV_CHECK(config->only({"level"}));
      BV_TRY(level, config->text_or("level", ""));
      family_->level = level;
    }
    return Done{};
  }

  Status own_tables(const JsonPlace& top) {
    const auto tables = top.find("tables");
    if (!tables) {
      return Done{};
    }
    BV_TRY(members, tables->members());
    for (const auto& [name, place] : members) {
      tables_[name] = Table{fmt::format("{} {}", place.file(), place.path()),
                            std::make_shared<const OrderedJson>(place.node())};
    }
    return Done{};
  }

  Result<JsonPlace> table_named(const std::string& name, const JsonPlace& user) const {
    const auto found = tables_.find(name);
    if (found != tables_.end()) {
      return JsonPlace(*found->second.json, found->second.file, "");
    }
    std::vector<std::string> known;
    for (const auto& [table, content] : tables_) {
      known.push_back(table);
    }
    const auto near = nearest(name, known);
    return user.error(fmt::format("there is no table \"{}\"", escaped(name)), escaped(name),
                      near ? fmt::format("perhaps \"{}\"", *near)
                           : "a table of this file's \"tables\", or of core/families/tables");
  }

  /// A family's own symbols overrule those of tables: they are read first, and the first statement
  /// stays.
  Status symbols_of(const JsonPlace& place, bool own) {
    const auto symbols = place.find("symbols");
    if (!symbols) {
      return Done{};
    }
    BV_TRY(members, symbols->members());
    for (const auto& [name, symbol_place] : members) {
      if (family_->symbol(name) == nullptr) {
        BV_TRY(symbol, parse_symbol(name, symbol_place));
        family_->symbols.push_back(symbol);
      } else if (own) {
        return symbol_place.error("a symbol is defined twice", name, "one definition");
      }
    }
    return Done{};
  }

  /// Those of a table count once, however often it is used.
  Status facts_once(const std::string& name, const JsonPlace& table) {
    return taken_.insert(name).second ? facts_of(table) : Status(Done{});
  }

  Status few(const JsonPlace& place, std::size_t count, std::size_t most) const {
    return count <= most ? Status(Done{})
                         : Status(place.error("the family grows too large here",
                                              fmt::format("more than {} entries", most),
                                              fmt::format("at most {}", most)));
  }

  /// Symbols, layer flags, conditions and allow-lists of a family or table.
  Status facts_of(const JsonPlace& place) {
    BV_CHECK(symbols_of(place, false));
    if (const auto flags = place.find("layer_flags")) {
      BV_TRY(members, flags->members());
      for (const auto& [name, flag_place] : members) {
        if (!family_->is_layer_flag(name)) {
          BV_TRY(flag, parse_layer_flag(name, flag_place));
          family_->layer_flags.push_back(flag);
        }
      }
    }
    if (const auto musts = place.find("must")) {
      BV_TRY(items, musts->items());
      for (const JsonPlace& item : items) {
        BV_TRY(must, parse_must(item));
        family_->musts.push_back(must);
      }
    }
    return few(
        place,
        std::max({family_->symbols.size(), family_->layer_flags.size(), family_->musts.size()}),
        kFactsMax);
  }

  Status lists(const JsonPlace& top) {
    BV_CHECK(parse_prefixes(top, *family_));
    BV_CHECK(add_ignored(top, kOwnChoice, family_->ignore_hf));
    if (const auto buffers = tables_.find(kBuffers); buffers != tables_.end()) {
      BV_CHECK(add_ignored(JsonPlace(*buffers->second.json, buffers->second.file, ""),
                           kComputedAgain, family_->ignore_hf));
    }
    return list_of(top, "unsupported", parse_unsupported, family_->unsupported);
  }

  /// The entries of a list that may be absent, behind those that are there.
  template <class T>
  static Status list_of(const JsonPlace& place, const char* key,
                        Result<T> (*parse)(const JsonPlace&), std::vector<T>& out) {
    const auto list = place.find(key);
    if (!list) {
      return Done{};
    }
    BV_TRY(items, list->items());
    for (const JsonPlace& item : items) {
      BV_TRY(entry, parse(item));
      out.push_back(entry);
    }
    return Done{};
  }

  Status section(const JsonPlace& place) {
    BV_CHECK(place.only({"stage", "title", "over", "names", "flags", "forms", "owns", "copies",
                         "use", "rules", "constraints", "inner", "stage_starts", "own_keys",
                         "stored_modules"}));
    Section out;
    BV_TRY(stage, place.at("stage"));
    BV_TRY(known_stage, parse_stage(stage));
    out.stage = known_stage;
    BV_TRY(title, place.text_or("title", stage.node().get<std::string>()));
    out.title = title;
    if (const auto over = place.find("over")) {
      BV_TRY(variable, parse_over(*over));
      out.variable = variable.first;
      out.over = variable.second;
    }
    out.layered = out.stage == Stage::Decoder && out.over == symbols::kLayers;
    BV_TRY(flags, place.texts_or_none("flags"));
    out.flags = flags;
    if (const auto inner = place.find("inner")) {
      BV_TRY(repeated, parse_inner(*inner));
      out.inner = repeated;
    }
    BV_CHECK(section_lists(place, out));
    BV_CHECK(section_rules(place, out));
    family_->sections.push_back(std::move(out));
    return Done{};
  }

  Status section_lists(const JsonPlace& place, Section& out) {
    BV_TRY(names, parse_names(place));
    names_ = std::move(names);
    if (const auto forms = place.find("forms")) {
      BV_TRY(members, forms->members());
      for (const auto& [group, list] : members) {
        BV_TRY(alternatives, list.texts());
        out.forms[group] = alternatives;
      }
    }
    BV_CHECK(list_of(place, "stage_starts", parse_stage_start, out.stage_starts));
    BV_CHECK(list_of(place, "stored_modules", parse_stored_module, out.stored_modules));
    BV_CHECK(parse_own_keys(place, out));
    BV_TRY(owns, place.texts_or_none("owns"));
    for (const std::string& prefix : owns) {
      BV_TRY(whole, with_names(place, prefix, names_));
      out.owns.push_back(whole);
    }
    if (const auto copies = place.find("copies")) {
      BV_TRY(items, copies->items());
      for (const JsonPlace& item : items) {
        BV_TRY(copy, parse_copy(item));
        for (std::string* name : {&copy.copy, &copy.of, &copy.of_tied}) {
          BV_TRY(whole, with_names(item, *name, names_));
          *name = whole;
        }
        out.copies.push_back(copy);
      }
    }
    return Done{};
  }

  Status section_rules(const JsonPlace& place, Section& out) {
    out.first_rule = family_->rules.size();
    if (const auto use = place.find("use")) {
      BV_TRY(items, use->items());
      for (const JsonPlace& item : items) {
        BV_CHECK(use_table(item, out));
      }
    }
    BV_CHECK(rules_of(place, {}, out));
    BV_CHECK(constraints_of(place, {}, out));
    out.end_rule = family_->rules.size();
    return forms_exist(place, out);
  }

  /// A misspelt form would silently leave its rules out.
  Status forms_exist(const JsonPlace& place, const Section& out) const {
    for (const auto& entry : out.forms) {
      const std::string& group = entry.first;  // a lambda cannot hold a structured binding in C++20
      for (const std::string& form : entry.second) {
        const bool used = std::any_of(
            family_->rules.begin() + static_cast<std::ptrdiff_t>(out.first_rule),
            family_->rules.end(),
            [&](const Rule& rule) { return rule.form_group == group && rule.form == form; });
        if (!used) {
          return place.error(fmt::format("no rule of this section has the form \"{}\" of \"{}\"",
                                         escaped(form), escaped(group)),
                             escaped(form), "a form that a rule of the section states");
        }
      }
    }
    return Done{};
  }

  Status use_table(const JsonPlace& item, Section& out) {
    std::vector<std::string> when;
    std::string name;
    if (item.node().is_string()) {
      BV_TRY(text, item.text());
      name = text;
    } else {
      BV_CHECK(item.only({"table", "when"}));
      BV_TRY(table, item.at("table"));
      BV_TRY(text, table.text());
      BV_TRY(conditions, item.texts_or_none("when"));
      name = text;
      when = conditions;
    }
    BV_TRY(table, table_named(name, item));
    BV_CHECK(table.only(
        {"doc", "symbols", "layer_flags", "must", "constraints", "keep_float32", "rules"}));
    BV_CHECK(facts_once(name, table));
    BV_CHECK(constraints_of(table, when, out));
    return rules_of(table, when, out);
  }

  Status constraints_of(const JsonPlace& place, const std::vector<std::string>& when,
                        Section& out) {
    const auto constraints = place.find("constraints");
    if (!constraints) {
      return Done{};
    }
    BV_TRY(items, constraints->items());
    for (const JsonPlace& item : items) {
      BV_TRY(constraint, parse_constraint(item));
      constraint.when.insert(constraint.when.begin(), when.begin(), when.end());
      out.constraints.push_back(constraint);
    }
    return few(place, out.constraints.size(), kFactsMax);
  }

  Status rules_of(const JsonPlace& place, const std::vector<std::string>& when, Section& out) {
    const auto rules = place.find("rules");
    if (!rules) {
      return Done{};
    }
    BV_TRY(keep_float32, place.boolean_or("keep_float32", false));
    BV_TRY(items, rules->items());
    rules_read_ += items.size();
    BV_CHECK(few(place, rules_read_, kRulesMax));
    for (const JsonPlace& item : items) {
      if (is_one_sided(item)) {
        BV_TRY(row, parse_one_sided(item));
        BV_CHECK(settle(item, names_, {when, out.title, family_->sections.size()}, row.rule));
        out.one_sided.push_back(std::move(row));
        continue;
      }
      BV_TRY(rule, parse_rule(item));
      rule.keep_float32 = rule.keep_float32 || keep_float32;
      BV_CHECK(settle(item, names_, {when, out.title, family_->sections.size()}, rule));
      if (allowed(rule, out)) {
        family_->rules.push_back(std::move(rule));
      }
    }
    return Done{};
  }

  /// A section may name the storage forms that it takes; rules of other forms are left out.
  static bool allowed(const Rule& rule, const Section& section) {
    const auto forms = section.forms.find(rule.form_group);
    return rule.form_group.empty() || forms == section.forms.end() ||
           std::find(forms->second.begin(), forms->second.end(), rule.form) != forms->second.end();
  }

  void number_rules() {
    std::map<std::size_t, int> in_section;
    for (std::size_t i = 0; i < family_->rules.size(); ++i) {
      Rule& rule = family_->rules[i];
      rule.id = fmt::format("r{}", i);
      rule.source =
          fmt::format("{}: {} rule {}", family_->file, rule.source, in_section[rule.section]++);
    }
  }

  Tables tables_;
  TextsByName names_;
  std::set<std::string> taken_;  // tables whose facts are in
  std::size_t rules_read_ = 0;
  std::shared_ptr<Family> family_ = std::make_shared<Family>();
};

}  // namespace

Result<FamilyPtr> parse_family_with(std::string_view text, std::string_view file, Tables tables) {
  BV_TRY(json, parse_rules_json(text, file));
  return FamilyParser(std::move(tables)).run(JsonPlace(json, std::string(file), ""));
}

}  // namespace bv::family
