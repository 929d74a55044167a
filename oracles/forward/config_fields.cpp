#include "oracles/forward/config_fields.hpp"

#include <fmt/format.h>

#include <cmath>

#include "core/base/text.hpp"

namespace bv::oracle::forward {

const Json* Fields::find(std::string_view key) const {
  const auto at = object_->find(key);
  return at == object_->end() || at->is_null() ? nullptr : &*at;
}

bool Fields::is_null(std::string_view key) const {
  const auto at = object_->find(key);
  return at != object_->end() && at->is_null();
}

std::int64_t Fields::integer(std::string_view key, std::optional<std::int64_t> otherwise) {
  const Json* value = find(key);
  if (value == nullptr && otherwise) return *otherwise;
  const bool whole = value != nullptr && value->is_number_integer();
  const bool fits = whole && *value >= 0 && *value <= kSizeMax;
  if (!fits) return refuse(key, fmt::format("an integer from 0 to {}", kSizeMax)), 1;
  return value->get<std::int64_t>();
}

std::int64_t Fields::size(std::string_view key, std::optional<std::int64_t> otherwise,
                          std::int64_t most) {
  const auto number = integer(key, otherwise);
  if (number < 1 || number > most) return refuse(key, fmt::format("1 to {}", most)), 1;
  return number;
}

std::int64_t Fields::first_size(std::string_view key) {
  const Json* value = find(key);
  if (value == nullptr || !value->is_array()) return size(key);
  const auto all = integers(key);
  if (all.empty() || all.front() < 1) return refuse(key, "sizes"), 1;
  return all.front();
}

double Fields::real(std::string_view key, double otherwise) {
  const Json* value = find(key);
  if (value == nullptr) return otherwise;
  if (!value->is_number()) return refuse(key, "a number"), otherwise;
  const double number = value->get<double>();
  if (!std::isfinite(number)) return refuse(key, "a finite number"), otherwise;
  return number;
}

double Fields::positive(std::string_view key, double otherwise) {
  const double number = real(key, otherwise);
  if (!(number > 0.0)) return refuse(key, "a positive number"), 1.0;
  return number;
}

bool Fields::flag(std::string_view key, bool otherwise) {
  const Json* value = find(key);
  if (value == nullptr) return otherwise;
  if (!value->is_boolean()) return refuse(key, "true or false"), otherwise;
  return value->get<bool>();
}

std::string Fields::text(std::string_view key, std::string otherwise) {
  const Json* value = find(key);
  if (value == nullptr) return otherwise;
  if (!value->is_string()) return refuse(key, "a string"), otherwise;
  return value->get<std::string>();
}

std::vector<std::int64_t> Fields::integers(std::string_view key) {
  std::vector<std::int64_t> out;
  const Json* value = find(key);
  if (value == nullptr) return out;
  if (!value->is_array()) return refuse(key, "an array of integers"), out;
  for (const Json& item : *value) {
    if (!item.is_number_integer() || item < 0 || item > kSizeMax)
      return refuse(key, "an array of sizes"), out;
    out.push_back(item.get<std::int64_t>());
  }
  return out;
}

std::vector<double> Fields::reals(std::string_view key, std::size_t count, double otherwise) {
  std::vector<double> out(count, otherwise);
  const Json* value = find(key);
  if (value == nullptr) return out;
  if (!value->is_array() || value->size() != count)
    return refuse(key, fmt::format("{} numbers", count)), out;
  for (std::size_t i = 0; i < count; ++i) {
    const Json& item = (*value)[i];
    if (!item.is_number() || !std::isfinite(item.get<double>()))
      return refuse(key, "finite numbers"), out;
    out[i] = item.get<double>();
  }
  return out;
}

std::string Fields::shown(std::string_view key) const {
  const Json* value = find(key);
  std::string found =
      value == nullptr ? "nothing" : value->dump(-1, ' ', true, Json::error_handler_t::replace);
  if (found.size() > 80) found = found.substr(0, 77) + "...";
  return escaped(found);
}

void Fields::refuse(std::string_view key, const std::string& wanted) {
  if (error_) return;
  error_ = fail(Code::ConfigField, fmt::format("config field {}{} cannot be used", path_, key))
               .pair(shown(key), wanted)
               .advise("correct the field, or leave the forward claim out for this model");
}

void Fields::lack(std::string_view key, const std::string& computed) {
  if (error_) return;
  const std::string what = find(key) == nullptr
                               ? fmt::format("without {}{}", path_, key)
                               : fmt::format("with {}{} {}", path_, key, shown(key));
  error_ =
      fail(Code::ArchitectureUnknown, fmt::format("no forward form for a model {}", what))
          .pair(shown(key), computed)
          .advise(
              "leave the forward claim out for this model: the other claims judge it, whatever "
              "this field says");
}

void Fields::adopt(const Fields& inner) {
  if (!error_) error_ = inner.error_;
}

}  // namespace bv::oracle::forward
