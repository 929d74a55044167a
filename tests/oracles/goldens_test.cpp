// The proof that the oracles are right: for every parameter of every shard that the real
// Megatron-Bridge made, the elements that the oracle names have the bytes that stand there.
#define XXH_INLINE_ALL
#include <gtest/gtest.h>
#include <xxhash.h>

#include <fstream>
#include <nlohmann/json.hpp>
#include <set>

#include "golden_checkpoint.hpp"
#include "hf_names.hpp"
#include "oracles/oracle.hpp"
#include "tagging.hpp"
#include "tests/oracles/aten.hpp"
#include "tests/support/files.hpp"

namespace bv::oracle {
namespace {

using support::read_json;

const std::filesystem::path kGolden = support::golden();

std::string digest(const std::string& bytes) {
  XXH128_canonical_t canonical;
  XXH128_canonicalFromHash(&canonical, XXH3_128bits(bytes.data(), bytes.size()));
  std::string hex;
  for (const unsigned char byte : canonical.digest) {
    constexpr const char* kDigits = "0123456789abcdef";
    hex += kDigits[byte >> 4];
    hex += kDigits[byte & 15];
  }
  return hex;
}

struct Case {
  StoredTensors stored;
  std::map<std::string, std::int64_t, std::less<>>
      numbers;  // of the decoder's config; vision_num_heads
  std::string model_type;
};

Case read_case(const std::string& name) {
  const nlohmann::json config = read_json(kGolden / "hf" / name / "config.json");
  Case out{read_checkpoint(kGolden / "hf" / name), {}, config.at("model_type")};
  const nlohmann::json& decoder =
      config.contains("text_config") ? config.at("text_config") : config;
  for (const auto& [key, value] : decoder.items()) {
    if (value.is_number_integer()) {
      out.numbers[key == "num_key_value_heads" ? "num_query_groups" : key] = value;
    }
  }
  if (config.contains("vision_config")) {
    out.numbers["vision_num_heads"] = config.at("vision_config").at("num_heads");
  }
  return out;
}

/// Decoder layers that earlier stages hold, counted in the shards' own names.
std::int64_t layers_before(const nlohmann::json& shards, std::int64_t pp, std::int64_t vp) {
  std::map<std::pair<std::int64_t, std::int64_t>, std::set<std::int64_t>> layers;
  for (const nlohmann::json& shard : shards) {
    for (const auto& [name, spec] : shard.at("tensors").items()) {
      const std::string decoder = "decoder.layers.";
      const std::size_t at =
          name.starts_with("vision_model.") ? std::string::npos : name.find(decoder);
      if (at != std::string::npos) {
        layers[{shard.value("vp", 0), shard.at("pp")}].insert(
            std::stoll(name.substr(at + decoder.size())));
      }
    }
  }
  std::int64_t before = 0;
  for (const auto& [stage, local] : layers) {
    before += stage < std::pair(vp, pp) ? std::ssize(local) : 0;
  }
  return before;
}

/// "decoder.layers.<local>" and "weight<local>" with their global numbers.
std::string global_name(std::string name, std::int64_t first_layer, std::int64_t first_expert) {
  const std::string decoder = "decoder.layers.";
  const std::size_t at = name.starts_with("vision_model.") ? std::string::npos : name.find(decoder);
  if (at != std::string::npos) {
    const std::size_t from = at + decoder.size();
    const std::size_t to = name.find('.', from);
    name.replace(from, to - from,
                 std::to_string(std::stoll(name.substr(from, to - from)) + first_layer));
  }
  if (name.find(".mlp.experts.") != std::string::npos) {
    const std::size_t digits = name.find_last_not_of("0123456789") + 1;
    name.replace(digits, std::string::npos,
                 std::to_string(std::stoll(name.substr(digits)) + first_expert));
  }
  return name;
}

bool is_expert(const std::string& name) {
  return name.find(".mlp.experts.") != std::string::npos;
}

std::int64_t padded_vocab(const nlohmann::json& run, std::int64_t rows) {
  if (!run.at("settings").value("should_pad_vocab", false)) {
    return 0;
  }
  const std::int64_t unit =
      run.at("settings").at("make_vocab_size_divisible_by").get<std::int64_t>() *
      run.at("layout").at("tp").get<std::int64_t>();
  return (rows + unit - 1) / unit * unit;
}

struct Compared {
  std::int64_t parameters = 0;
};

class Comparison {
 public:
  Comparison(const Case& model, const nlohmann::json& run) : model_(model), run_(run) {}

  /// One parameter of one shard: shape and digest are those that the real bridge made.
  void compare(const nlohmann::json& shard, const std::string& local, const nlohmann::json& spec) {
    const Question question = asked(shard, local);
    SCOPED_TRACE(question.parameter);
    ASSERT_FALSE(question.hf_names.empty()) << "the test has no HF name";
    const auto wanted = wanted_shard(question);
    ASSERT_TRUE(wanted) << why_unanswered(question);
    ASSERT_EQ(aten_shard(question), wanted) << question.parameter;
    EXPECT_EQ(nlohmann::json(wanted->shape), spec.at(1));
    const bool minus_one = local.ends_with("self_attention.out_norm.weight");
    const std::string bytes = gathered(wanted->tags, sources_of(question), spec.at(0), minus_one);
    EXPECT_EQ(digest(bytes), spec.at(2));
    ++compared.parameters;
  }

  Compared compared;

 private:
  Question asked(const nlohmann::json& shard, const std::string& local) const {
    const std::int64_t experts_here =
        model_.numbers.contains("num_experts")         ? model_.numbers.at("num_experts")
        : model_.numbers.contains("n_routed_experts")  ? model_.numbers.at("n_routed_experts")
        : model_.numbers.contains("num_local_experts") ? model_.numbers.at("num_local_experts")
                                                       : 0;
    const std::int64_t per_rank = experts_here / run_.at("layout").at("ep").get<std::int64_t>();
    Question question;
    question.parameter =
        global_name(local, layers_before(run_.at("shards"), shard.at("pp"), shard.value("vp", 0)),
                    shard.at("ep").get<std::int64_t>() * per_rank);
    question.numbers = model_.numbers;
    question.model_type = model_.model_type;
    const char* group = is_expert(local) ? "etp" : "tp";
    question.shard_size = run_.at("layout").at(group);
    question.shard_rank = shard.at(group);
    for (const std::string& name : hf_names_of(question.parameter, model_.stored)) {
      add_source(question, name, model_.stored.at(name).shape);
    }
    if (local.ends_with("word_embeddings.weight") || local.ends_with("output_layer.weight")) {
      question.padded_vocab = padded_vocab(run_, question.hf.front().shape.front());
    }
    return question;
  }

  std::vector<const StoredTensor*> sources_of(const Question& question) const {
    std::vector<const StoredTensor*> sources;
    for (const std::string& name : question.hf_names) {
      sources.push_back(&model_.stored.at(name));
    }
    return sources;
  }

  const Case& model_;
  const nlohmann::json& run_;
};

std::vector<std::string> golden_cases() {
  std::set<std::string> names;
  for (const auto& entry : std::filesystem::directory_iterator(kGolden / "megatron")) {
    if (entry.is_directory()) {
      names.insert(entry.path().filename());
    }
  }
  return {names.begin(), names.end()};
}

class Goldens : public ::testing::TestWithParam<std::string> {};

TEST_P(Goldens, HaveTheBytesThatTheOracleNames) {
  const Case model = read_case(GetParam());
  Compared total;
  for (const auto& entry : std::filesystem::directory_iterator(kGolden / "megatron" / GetParam())) {
    if (entry.path().extension() != ".json") {
      continue;
    }
    SCOPED_TRACE(entry.path().stem().string());
    const nlohmann::json run = read_json(entry.path());
    Comparison comparison(model, run);
    for (const nlohmann::json& shard : run.at("shards")) {
      for (const auto& [local, spec] : shard.at("tensors").items()) {
        comparison.compare(shard, local, spec);
        if (::testing::Test::HasFailure()) {
          return;
        }
      }
    }
    total.parameters += comparison.compared.parameters;
  }
  EXPECT_GT(total.parameters, 100);
  RecordProperty("parameters", std::to_string(total.parameters));
}

INSTANTIATE_TEST_SUITE_P(RealRuns, Goldens, ::testing::ValuesIn(golden_cases()),
                         [](const auto& one) { return one.param; });

TEST(Goldens, AreAllTwentyTwoCases) {
  EXPECT_EQ(golden_cases().size(), 22);
}

TEST(Goldens, NoticeATensorCutForTheWrongRank) {
  const Case model = read_case("llama");
  const nlohmann::json run = read_json(kGolden / "megatron" / "llama" / "tp2.json");
  const nlohmann::json& tensors = run.at("shards").at(0).at("tensors");
  Question question;
  question.parameter = "decoder.layers.0.self_attention.linear_qkv.weight";
  question.numbers = model.numbers;
  for (const std::string& name : hf_names_of(question.parameter, model.stored)) {
    add_source(question, name, model.stored.at(name).shape);
  }
  const std::vector<const StoredTensor*> sources = {&model.stored.at(question.hf_names.at(0)),
                                                    &model.stored.at(question.hf_names.at(1)),
                                                    &model.stored.at(question.hf_names.at(2))};
  question.shard_size = 2;
  const std::string real = tensors.at(question.parameter).at(2);
  EXPECT_EQ(digest(gathered(wanted_shard(question)->tags, sources, "F32", false)), real);
  question.shard_rank = 1;
  EXPECT_NE(digest(gathered(wanted_shard(question)->tags, sources, "F32", false)), real);
}

}  // namespace
}  // namespace bv::oracle
