#pragma once
// What an adapter can name in a base model: the tensors that are stored, and those of the model's
// class when its experts are stored in another form.

#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "core/checkpoint/hf_model.hpp"
#include "core/kinds/catalogue.hpp"
#include "core/lora/tied_head.hpp"

namespace bv::lora {

/// Rows first, first + step, ... of the out axis of a named weight lie in a stored one.
struct StoredRows {
  std::string stored;
  std::int64_t expert = -1;  // slice of a stored stack; -1: the whole tensor
  bool transposed = false;   // it is stored [in, out]
  std::int64_t first = 0, step = 1, count = 0;
  std::int64_t stored_first = 0, stored_step = 1;
};

/// One weight that a module of the class has: [out, in], or that for each of `experts`.
struct NamedWeight {
  std::string name;
  std::int64_t rows = 0;     // out
  std::int64_t columns = 0;  // in
  std::int64_t experts = 0;  // packed in one parameter [E, ...]; 0: a matrix
  /// The class keeps [in, out]; nullopt when no family says so.
  std::optional<bool> columns_first = std::nullopt;
  Shape shape = {};  // as the class has it
  std::vector<StoredRows> parts = {};
};

class BaseTensors {
 public:
  /// Without a family (hf.model.family is null) the stored tensors are all there is. Errors: those
  /// of plan::bind_rule.
  static Result<BaseTensors> make(const checkpoint::HfModel& hf, const kinds::Catalogue& kinds);

  [[nodiscard]] const Headers& headers() const { return *headers_; }
  /// The output layer of a tied model, which is a module of the class and no tensor of the files.
  [[nodiscard]] const std::optional<TiedHead>& tied() const { return tied_; }
  /// A stored tensor, or the weight of `tied`; else nullptr.
  [[nodiscard]] const TensorSpec* stored(std::string_view name) const;
  /// The weight that a module or a packed parameter has; `expert` chooses the stored rows of a
  /// packed one (parts are those of that expert).
  [[nodiscard]] std::optional<NamedWeight> weight(std::string_view name,
                                                  std::int64_t expert = -1) const;
  /// The weight of a module that is several in the files, one below the other; nullopt when the
  /// family knows no such module, or one of them is not stored.
  [[nodiscard]] std::optional<NamedWeight> joined(const std::string& module) const;
  /// Parameters of a module that hold stacks of experts, by their names in the files, in the order
  /// in which the module registers them.
  [[nodiscard]] std::vector<std::string> packed_in(const std::string& module) const;
  /// The stored name of what the class names so, or files of another age did; nullopt when that is
  /// no stored tensor.
  [[nodiscard]] std::optional<std::string> under_other_module(std::string_view name) const;
  /// The prefix of the base's names in place of that of the class: "model." that one of them lacks.
  /// nullopt when no stored name has such an ending, or several prefixes have.
  [[nodiscard]] std::optional<std::string> under_other_prefix(std::string_view name) const;

 private:
  /// A weight of another form: where its rows are stored.
  struct Other {
    std::uint32_t mapping = 0;  // of the stored model
    std::int64_t expert = -1;   // in it
    std::size_t composition = 0;
    std::size_t source = 0;
  };
  /// Row numbers of one rule's sources in those of another rule of the same parameter.
  struct Composition {
    struct Run {
      std::size_t source = 0, stored_source = 0;
      std::int64_t first = 0, step = 1, count = 0, stored_first = 0, stored_step = 1;
    };
    std::vector<Run> runs;
    std::vector<std::int64_t> rows;  // of each source of the other rule
    std::int64_t columns = 0, experts = 0;
    bool columns_first = false;  // of the other rule
    bool transposed = false;     // of the stored one
  };
  Status add_stored(const checkpoint::HfModel& hf, const kinds::Catalogue& kinds);
  Status add_others(const checkpoint::HfModel& hf, const kinds::Catalogue& kinds);
  Status add_form(const checkpoint::HfModel& hf, const model::Model& other, const std::string& form,
                  const kinds::Catalogue& kinds);
  void add_weights(const model::Mapping& mapping, std::int64_t expert, Other place);
  static Result<Composition> compose(const model::Model& model, const family::Rule& other,
                                     const family::Rule& stored, const kinds::Catalogue& kinds);

  const Headers* headers_ = nullptr;
  const model::Model* model_ = nullptr;
  std::optional<TiedHead> tied_;
  std::map<std::string, bool, std::less<>> columns_first_;  // stored names that a rule knows
  std::map<std::string, Other, std::less<>> others_;
  std::vector<Composition> compositions_;
  std::map<std::string, std::vector<std::string>, std::less<>> packed_;
};

}  // namespace bv::lora
