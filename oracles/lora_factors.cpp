#include "oracles/lora_factors.hpp"

#include <new>

#include "oracles/modules.hpp"
#include "oracles/target_layout.hpp"

namespace bv::oracle {
namespace {

/// The class of the adapter, by what tensor parallelism cuts of the weight
/// (docs/reference/semantics.md#lora-shards).
enum class AdapterClass { ColumnParallel, RowParallel, Replicated, Plain };

AdapterClass class_of(Formula formula) {
  switch (formula) {
    case Formula::Column:
    case Formula::LinearQkv:
    case Formula::LinearKv:
    case Formula::LinearFc1:
    case Formula::GdnInProj:
    case Formula::MambaInProj:
    case Formula::EhProj:
    case Formula::ExpertFc1:
      return AdapterClass::ColumnParallel;
    case Formula::Row:
    case Formula::ExpertFc2:
      return AdapterClass::RowParallel;
    case Formula::Replicated:
      return AdapterClass::Replicated;
    case Formula::GdnConv1d:
    case Formula::MambaConv1d:
    case Formula::Vocabulary:
    case Formula::OutputLayer:
      break;
  }
  throw Unanswered("Megatron has no adapter for such a module");
}

TaggedTensor zeros(std::vector<std::int64_t> shape) {
  TaggedTensor out;
  std::size_t elements = 1;
  for (const std::int64_t size : shape) {
    elements *= static_cast<std::size_t>(size);
  }
  out.shape = std::move(shape);
  out.tags.assign(elements, -1);
  return out;
}

/// The factors of the whole layer: one A above the other, each B on the columns of its own A and
/// zero on the others.
struct WholeFactors {
  TaggedTensor a;                        // [rank, in]
  std::vector<TaggedTensor> b;           // one a HF tensor: [rows, rank]
  std::vector<TaggedTensor> magnitudes;  // likewise: [rows, 1]; empty without DoRA
};

void check_fits(const AdapterQuestion& question, const AdapterPart& part, std::int64_t at) {
  const bool fits = part.hf < question.hf_rows.size() && part.a.shape.size() == 2 &&
                    part.b.shape.size() == 2 && part.a.shape[1] == question.in &&
                    part.b.shape[1] == part.a.shape[0] && at + part.a.shape[0] <= question.rank;
  const std::int64_t last =
      fits ? part.first_row + (part.b.shape[0] - 1) * part.row_step : std::int64_t{0};
  if (!fits || part.first_row < 0 || last >= question.hf_rows[part.hf]) {
    throw Unanswered("a pair does not fit the layer of " + question.weight.parameter);
  }
}

WholeFactors whole_factors(const AdapterQuestion& question, std::int64_t rank) {
  WholeFactors out;
  out.a = zeros({rank, question.in});
  for (const std::int64_t rows : question.hf_rows) {
    out.b.push_back(zeros({rows, rank}));
  }
  std::int64_t at = 0;
  for (const AdapterPart& part : question.parts) {
    check_fits(question, part, at);
    const std::int64_t r = part.a.shape[0];
    for (std::int64_t i = 0; i < r * question.in; ++i) {
      if (!question.shared || &part == &question.parts.front()) {
        out.a.tags[static_cast<std::size_t>(at * question.in + i)] =
            part.a.tags[static_cast<std::size_t>(i)];
      }
    }
    for (std::int64_t i = 0; i < part.b.shape[0]; ++i) {
      const std::int64_t row = part.first_row + i * part.row_step;
      for (std::int64_t k = 0; k < r; ++k) {
        out.b[part.hf].tags[static_cast<std::size_t>(row * rank + at + k)] =
            part.b.tags[static_cast<std::size_t>(i * r + k)];
      }
    }
    at += question.shared ? 0 : r;
  }
  return out;
}

void add_magnitudes(const AdapterQuestion& question, WholeFactors& out) {
  if (question.parts.empty() || !question.parts.front().magnitude) {
    return;
  }
  for (const std::int64_t rows : question.hf_rows) {
    out.magnitudes.push_back(zeros({rows, 1}));
  }
  for (const AdapterPart& part : question.parts) {
    if (!part.magnitude || std::ssize(part.magnitude->tags) != part.b.shape[0]) {
      throw Unanswered("pairs with and without magnitudes in " + question.weight.parameter);
    }
    for (std::int64_t i = 0; i < part.b.shape[0]; ++i) {
      out.magnitudes[part.hf].tags[static_cast<std::size_t>(part.first_row + i * part.row_step)] =
          part.magnitude->tags[static_cast<std::size_t>(i)];
    }
  }
}

/// Rows of one expert of a stack that holds gate and up: halves, or one after the other.
Tensor gate_and_up(const TaggedTensor& rows, const Question& weight) {
  const Tensor all = tensor_of(rows);
  exact(all.size(0), 2, "gate and up rows of an expert");
  if (alternates(weight)) {
    const Tensor pairs = split_rows(all, {-1, 2});
    return sections({pairs.select(1, 0), pairs.select(1, 1)}, weight);
  }
  return sections(all.chunk(2, 0), weight);
}

const TaggedTensor& only(const std::vector<TaggedTensor>& rows, const Question& weight) {
  if (rows.size() != 1) {
    throw Unanswered(weight.parameter + " is made of several HF tensors");
  }
  return rows.front();
}

/// Rows of one projection: an HF tensor of its own, or a block of the fused one, where all queries
/// stand before all keys, and those before all values; all gates before all ups.
Tensor projection(const Tensor& rows, const AdapterQuestion& question) {
  const std::string one = question.canonical.substr(question.canonical.find('_') + 1);
  if (question.weight.hf_names.size() > 1) {
    return rows;
  }
  if (one == "gate" || one == "up") {
    exact(rows.size(0), 2, "gate and up rows");
    return rows.chunk(2, 0)[one == "gate" ? 0 : 1];
  }
  const std::int64_t heads = number(question.weight, "num_attention_heads");
  const std::int64_t groups = number(question.weight, "num_query_groups");
  const std::int64_t size = exact(rows.size(0), heads + 2 * groups, "rows over heads");
  const std::int64_t first = one == "q" ? 0 : one == "k" ? heads : heads + groups;
  return rows.narrow(0, first * size, (one == "q" ? heads : groups) * size);
}

/// Rows of a column-parallel layer, whatever stands in them.
Tensor rows_of_column_layer(const AdapterQuestion& question, Formula formula,
                            const std::vector<TaggedTensor>& rows) {
  if (!question.canonical.empty()) {
    const Tensor whole = tensor_of(rows.at(question.parts.front().hf));
    return block(projection(whole, question), 0, question.weight);
  }
  if (formula == Formula::EhProj) {  // its columns, which may change places, are those of A
    return block(tensor_of(only(rows, question.weight)), 0, question.weight);
  }
  const std::vector<std::string>& names = question.weight.hf_names;
  const bool stack =
      formula == Formula::ExpertFc1 && names.size() == 1 && !expert_in(names.front());
  if (stack) {
    return holds_gate_and_up(question.weight) ? gate_and_up(rows.front(), question.weight)
                                              : block(tensor_of(rows.front()), 0, question.weight);
  }
  Question weight = question.weight;
  weight.hf = rows;
  const std::optional<TaggedTensor> shard = wanted_shard(weight);
  if (!shard) {
    throw Unanswered(why_unanswered(weight));
  }
  return tensor_of(*shard);
}

/// MiMo stores [hidden, embedding] where Megatron has [embedding, hidden].
Tensor columns_as_stored(const Tensor& a, const AdapterQuestion& question, Formula formula) {
  if (formula != Formula::EhProj || !has_part(question.weight, "input_proj")) {
    return a;
  }
  exact(a.size(1), 2, "columns of input_proj");
  const auto halves = a.chunk(2, 1);
  return ops::cat({halves[1], halves[0]}, 1);
}

WantedFactors factors_of(const AdapterQuestion& question) {
  const Question& weight = question.weight;
  const std::optional<Formula> formula = formula_of(weight.parameter);
  if (!formula) {
    throw Unanswered("the target-layout table has no row for " + weight.parameter);
  }
  const bool plain = is_of_hf(weight.parameter);
  const AdapterClass kind = plain ? AdapterClass::Plain : class_of(*formula);
  const bool by_rank = kind != AdapterClass::RowParallel;
  const std::int64_t ways = plain ? 1 : weight.shard_size;
  const std::int64_t rank =
      by_rank ? (question.rank + ways - 1) / ways * ways : question.rank;  // rows of zeros
  WholeFactors whole = whole_factors(question, rank);
  add_magnitudes(question, whole);
  const bool dora = !whole.magnitudes.empty();
  WantedFactors out;
  const Tensor a = columns_as_stored(tensor_of(whole.a), question, *formula);
  out.a = tagged(plain ? a : block(a, by_rank ? 0 : 1, weight));
  if (kind == AdapterClass::ColumnParallel) {
    out.b = tagged(rows_of_column_layer(question, *formula, whole.b));
    if (dora) {
      out.magnitude = tagged(rows_of_column_layer(question, *formula, whole.magnitudes));
    }
  } else {
    const Tensor b = tensor_of(only(whole.b, weight));
    out.b = tagged(plain ? b : block(b, 0, weight));
    if (dora) {
      out.magnitude = only(whole.magnitudes, weight);
    }
  }
  if (out.magnitude) {
    out.magnitude->shape = {std::ssize(out.magnitude->tags)};
  }
  return out;
}

struct FactorsAnswer {
  std::optional<WantedFactors> factors;
  std::string why_not;
};
FactorsAnswer factors_answer(const AdapterQuestion& question) {
  try {
    return {factors_of(question), ""};
  } catch (const std::bad_alloc&) {
    throw;  // says nothing of the oracle
  } catch (const std::exception& thrown) {
    return {std::nullopt, thrown.what()};
  }
}

}  // namespace

std::optional<WantedFactors> wanted_factors(const AdapterQuestion& question) {
  return factors_answer(question).factors;
}

std::string why_unanswered(const AdapterQuestion& question) {
  return factors_answer(question).why_not;
}

}  // namespace bv::oracle
