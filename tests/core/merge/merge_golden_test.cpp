// What the real PEFT merged: bit for bit where it rounds once, and where it rounds the delta before
// it adds it, the oracle says so.

#include <fmt/format.h>
#include <gtest/gtest.h>

#include <array>
#include <bit>
#include <cmath>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <functional>
#include <nlohmann/json.hpp>

#include "core/io/checkpoint.hpp"
#include "core/merge/merge_product.hpp"
#include "oracles/lora_merge.hpp"

namespace bv::lora {
namespace {

namespace fs = std::filesystem;
using Json = nlohmann::json;
const fs::path kPeft = fs::path(BV_FIXTURES) / "golden/peft";

/// One stored tensor with memory of its own, perhaps in another dtype than on disk.
struct Stored {
  std::vector<std::int64_t> shape;
  DType dtype = DType::F32;
  std::vector<std::byte> memory;

  [[nodiscard]] std::int64_t size() const { return std::ssize(memory) / bytes(dtype); }
  [[nodiscard]] Stored as(DType other) const {
    Stored out{shape, other,
               std::vector<std::byte>(static_cast<std::size_t>(size() * bytes(other)))};
    for (std::int64_t i = 0; i < size(); ++i) {
      narrow(widen(memory.data() + i * bytes(dtype), dtype), out.memory.data() + i * bytes(other),
             other);
    }
    return out;
  }
  [[nodiscard]] double value(std::int64_t i) const {
    return widen(memory.data() + i * bytes(dtype), dtype);
  }
};

std::optional<Stored> load(const io::Checkpoint& from, const std::string& name) {
  const auto at = from.tensors().find(name);
  if (at == from.tensors().end()) {
    return std::nullopt;
  }
  const auto all = from.bytes(at->second);
  return Stored{at->second.spec.shape, at->second.spec.dtype, {all.begin(), all.end()}};
}

/// W[e] += s * left * right for every expert (one for a matrix).
struct Term {
  MatrixView left, right;
  std::int64_t first = 0;  // element of the base
};

/// The terms of a target as NOTES.md of the goldens states the formulas of each kind.
std::vector<Term> terms_of(const std::string& kind, const Stored& a, const Stored& b,
                           const std::vector<std::int64_t>& shape) {
  const bool packed = kind.starts_with("packed3d");
  const std::int64_t experts = packed ? shape[0] : 1;
  std::vector<Term> out;
  for (std::int64_t e = 0; e < experts; ++e) {
    const std::int64_t r = a.shape[0] / experts;
    const std::int64_t fin = a.shape[1];
    const std::int64_t fout = b.shape[0];
    const MatrixView right{a.memory.data() + e * r * fin * bytes(a.dtype), a.dtype, r, fin, fin, 1};
    const MatrixView left{
        b.memory.data() + e * bytes(b.dtype), b.dtype, fout, r, r * experts, experts};
    const bool turned = kind == "conv1d" || kind == "embedding" || kind == "packed3d_transposed";
    out.push_back(
        {turned ? transposed(right) : left, turned ? transposed(left) : right, e * fin * fout});
  }
  return out;
}

Stored merged(const Stored& base, const std::vector<Term>& terms, float scale) {
  Stored out = base;
  for (const Term& term : terms) {
    const MergeProduct product(term.left, term.right, scale);
    const std::int64_t row = product.columns() * bytes(base.dtype);
    std::byte* at = out.memory.data() + term.first * bytes(base.dtype);
    EXPECT_FALSE(
        product.add_to(best_merge_isa(), base.dtype, {0, product.rows(), at, at, row, row}));
  }
  return out;
}

/// T(W + T(delta)): the delta on a base of zeros, then one more addition.
Stored merged_with_rounded_delta(const Stored& base, const std::vector<Term>& terms, float scale) {
  Stored zeros = base;
  std::fill(zeros.memory.begin(), zeros.memory.end(), std::byte{0});
  const Stored delta = merged(zeros, terms, scale);
  Stored out = base;
  for (std::int64_t i = 0; i < base.size(); ++i) {
    narrow(static_cast<float>(base.value(i)) + static_cast<float>(delta.value(i)),
           out.memory.data() + i * bytes(base.dtype), base.dtype);
  }
  return out;
}

oracle::MergeTally judged(const Stored& base, const Stored& found, const std::vector<Term>& terms,
                          double scale) {
  oracle::MergeTally out;
  for (const Term& term : terms) {
    const std::int64_t columns = term.right.columns;
    const oracle::MergeTerms numbers{base.dtype, term.right.rows, scale,
                                     term.left.dtype != DType::F32};
    std::vector<double> a;
    for (std::int64_t k = 0; k < term.right.rows; ++k) {
      for (std::int64_t j = 0; j < columns; ++j) {
        a.push_back(widen(term.right.at(k, j), term.right.dtype));
      }
    }
    for (std::int64_t i = 0; i < term.left.rows; ++i) {
      std::vector<double> b;
      std::vector<double> w;
      std::vector<double> z;
      for (std::int64_t k = 0; k < term.left.columns; ++k) {
        b.push_back(widen(term.left.at(i, k), term.left.dtype));
      }
      for (std::int64_t j = 0; j < columns; ++j) {
        w.push_back(base.value(term.first + i * columns + j));
        z.push_back(found.value(term.first + i * columns + j));
      }
      oracle::judge_merged_row(numbers, {w, b, a, z}, i, out);
    }
  }
  return out;
}

Json read_json(const fs::path& path) {
  std::ifstream in(path);
  return Json::parse(in);
}

struct Target {
  std::string name, kind;
  Stored a, b;
  double scale = 0;
};
Target target_of(const Json& entry, const io::Checkpoint& adapter) {
  Target out{entry.at("param"), entry.at("kind"), {}, {}, entry.at("scale")};
  for (const auto& [suffix, key] : entry.at("keys").items()) {
    if (suffix == "lora_A.weight" || suffix == "lora_embedding_A") {
      out.a = *load(adapter, key);
    } else if (suffix == "lora_B.weight" || suffix == "lora_embedding_B") {
      out.b = *load(adapter, key);
    }
  }
  return out;
}

/// Equality of bytes, where -0 of the base and +0 of a library that adds +0 are one.
bool same(const Stored& ours, const Stored& theirs) {
  if (ours.shape != theirs.shape || ours.dtype != theirs.dtype) {
    return false;
  }
  for (std::int64_t i = 0; i < ours.size(); ++i) {
    const double x = ours.value(i);
    if (!(x == theirs.value(i))) {
      return false;
    }
  }
  return true;
}

TEST(MergeGolden, EveryMergeOfPeftIsReproducedOrShownToRoundTwice) {
  std::int64_t once = 0;
  std::int64_t twice = 0;
  for (const auto& entry : fs::directory_iterator(kPeft)) {
    const fs::path folder = entry.path();
    if (!fs::exists(folder / "merged_bf16.safetensors")) {
      continue;
    }
    SCOPED_TRACE(folder.filename().string());
    const Json meta = read_json(folder / "meta.json");
    const auto base = io::Checkpoint::open(folder / "base/model.safetensors");
    const auto adapter = io::Checkpoint::open(folder / "adapter/adapter_model.safetensors");
    ASSERT_TRUE(base && adapter);
    for (const DType dtype : {DType::F32, DType::BF16}) {
      const auto theirs = io::Checkpoint::open(
          folder / (dtype == DType::F32 ? "merged_fp32.safetensors" : "merged_bf16.safetensors"));
      ASSERT_TRUE(theirs);
      for (const Json& row : meta.value("targets", Json::array())) {
        if (row.at("kind") == "replaced" || row.at("kind") == "linear+dora") {
          continue;  // below, and in the tests of the command
        }
        const Target target = target_of(row, *adapter);
        const auto stored = load(*base, target.name);
        const auto found = load(*theirs, target.name);
        if (!stored) {
          continue;  // experts one by one: in the tests of the command
        }
        ASSERT_TRUE(found) << target.name;
        SCOPED_TRACE(fmt::format("{} in {}", target.name, name(dtype)));
        const Stored w = stored->as(dtype);
        const auto terms = terms_of(target.kind, target.a, target.b, w.shape);
        const auto scale = static_cast<float>(target.scale);
        const oracle::MergeTally tally = judged(w, *found, terms, target.scale);
        EXPECT_EQ(tally.elements, w.size());
        const bool rounds_once =
            dtype == DType::F32 || target.kind == "linear" || target.kind == "conv1d";
        if (rounds_once) {
          EXPECT_TRUE(same(merged(w, terms, scale), *found));
          EXPECT_EQ(tally.outside, 0);
          ++once;
        } else {
          EXPECT_TRUE(same(merged_with_rounded_delta(w, terms, scale), *found));
          EXPECT_GT(tally.outside, 0);
          EXPECT_EQ(tally.outside_rounded_delta, 0);
          ++twice;
        }
        EXPECT_EQ(judged(w, merged(w, terms, scale), terms, target.scale).outside, 0);
      }
    }
  }
  EXPECT_GE(once, 200);
  EXPECT_GE(twice, 10);
}

TEST(MergeGolden, MagnitudesScaleAsInPeft) {
  const fs::path folder = kPeft / "dora";
  const Json meta = read_json(folder / "meta.json");
  const auto base = io::Checkpoint::open(folder / "base/model.safetensors");
  const auto adapter = io::Checkpoint::open(folder / "adapter/adapter_model.safetensors");
  const auto bf16 = io::Checkpoint::open(folder / "merged_bf16.safetensors");
  const auto fp32 = io::Checkpoint::open(folder / "merged_fp32.safetensors");
  ASSERT_TRUE(base && adapter && bf16 && fp32);
  std::int64_t seen = 0;
  for (const Json& row : meta.at("targets")) {
    if (row.at("kind") != "linear+dora") {
      continue;
    }
    const Target target = target_of(row, *adapter);
    SCOPED_TRACE(target.name);
    const Stored magnitude = *load(*adapter, row.at("keys").at("lora_magnitude_vector"));
    std::vector<float> factors;
    for (std::int64_t i = 0; i < magnitude.size(); ++i) {
      factors.push_back(static_cast<float>(magnitude.value(i)));
    }
    for (const DType dtype : {DType::BF16, DType::F32}) {
      Stored w = load(*base, target.name)->as(dtype);
      const auto terms = terms_of("linear", target.a, target.b, w.shape);
      const MergeProduct product(terms[0].left, terms[0].right, static_cast<float>(target.scale));
      const std::int64_t step = w.shape[1] * bytes(dtype);
      EXPECT_EQ(merge_dora_rows(best_merge_isa(), dtype, product, factors,
                                {0, w.shape[0], w.memory.data(), w.memory.data(), step, step})
                    .value(),
                std::nullopt);
      const Stored found = *load(dtype == DType::BF16 ? *bf16 : *fp32, target.name);
      if (dtype == DType::BF16) {
        EXPECT_TRUE(same(w, found));
      } else {  // the library takes the norm in float32: last bits
        for (std::int64_t i = 0; i < w.size(); ++i) {
          EXPECT_NEAR(w.value(i), found.value(i), 4 * 0x1p-24 * std::abs(found.value(i)));
        }
      }
      ++seen;
    }
  }
  EXPECT_EQ(seen, 20);
}

/// The cases that were made for the numerics: dtypes of base and adapter, and options of PEFT.
void numerics(const std::string& which,
              const std::function<void(const Target&, const Stored&, const std::vector<Term>&,
                                       const std::string&)>& visit) {
  const fs::path folder = kPeft / which;
  const Json meta = read_json(folder / "meta.json");
  for (const std::string base_dtype : {"fp32", "bf16"}) {
    for (const std::string adapter_dtype : {"fp32", "bf16"}) {
      const auto base = io::Checkpoint::open(folder / ("base_" + base_dtype) / "model.safetensors");
      const auto adapter =
          io::Checkpoint::open(folder / ("adapter_" + adapter_dtype) / "adapter_model.safetensors");
      ASSERT_TRUE(base && adapter);
      for (const Json& row : meta.at("targets")) {
        const Target target = target_of(row, *adapter);
        const Stored w = *load(*base, target.name);
        SCOPED_TRACE(
            fmt::format("{}: {} on {}, adapter {}", which, target.name, base_dtype, adapter_dtype));
        visit(target, w, terms_of(target.kind, target.a, target.b, w.shape),
              fmt::format("base_{}__adapter_{}", base_dtype, adapter_dtype));
      }
    }
  }
}

TEST(MergeGolden, TheFloat32SumIsTheRecordedChainBitForBit) {
  std::int64_t seen = 0;
  for (const char* which : {"merge_numerics", "merge_numerics_packed", "merge_numerics_embed"}) {
    numerics(which, [&](const Target& target, const Stored& w, const std::vector<Term>& terms,
                        const std::string& files) {
      const auto chain = io::Checkpoint::open(kPeft / which / "merged" /
                                              ("engine_fma_fp32__" + files + ".safetensors"));
      ASSERT_TRUE(chain);
      const auto wanted = load(*chain, target.name);
      ASSERT_TRUE(wanted);
      EXPECT_TRUE(same(merged(w.as(DType::F32), terms, static_cast<float>(target.scale)), *wanted));
      EXPECT_TRUE(same(merged(w, terms, static_cast<float>(target.scale)), wanted->as(w.dtype)));
      ++seen;
    });
  }
  EXPECT_EQ(seen, 28);
}

TEST(MergeGolden, TheOptionsOfPeftThatRoundTheProductAreRefuted) {
  std::int64_t refuted = 0;
  for (const char* which : {"merge_numerics", "merge_numerics_packed"}) {
    numerics(which, [&](const Target& target, const Stored& w, const std::vector<Term>& terms,
                        const std::string& files) {
      const auto rounded =
          io::Checkpoint::open(kPeft / which / "merged" /
                               (files + "__autocast_adapter_on__torch_autocast_bf16.safetensors"));
      if (!rounded) {
        return;  // equal to another file of the case
      }
      EXPECT_GT(judged(w, *load(*rounded, target.name), terms, target.scale).outside, 0);
      ++refuted;
    });
  }
  EXPECT_GE(refuted, 6);
}

}  // namespace
}  // namespace bv::lora
