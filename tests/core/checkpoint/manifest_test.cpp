// manifest.json is input like any other: what is not right in it is named, before anything is
// computed or made from it.

#include <fmt/format.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <functional>

#include "tests/core/checkpoint/small_manifest.hpp"

namespace bv::checkpoint {
namespace {

using testing::read_manifest;
using testing::seal;
using testing::small_folder;
using Json = nlohmann::ordered_json;
using Edit = std::function<void(Json&)>;

const std::string kShard = "pp0_tp0_ep0_etp0.safetensors";
const std::string kOtherShard = "pp0_tp1_ep0_etp0.safetensors";
const std::string kFirst = "model-00001-of-00002.safetensors";
const std::string kZeros(32, '0');

std::string right_text() {
  return manifest_text(small_folder());
}

/// A manifest that must be refused: the code, and words of the message.
struct Hostile {
  std::string name;
  std::string code;
  std::string says;
  Edit edit;                                                       // of the JSON, or
  std::function<std::string(const std::string&)> spoil = nullptr;  // of the text
};

std::function<std::string(const std::string&)> instead(const std::string& before,
                                                       const std::string& after) {
  return [=](const std::string& text) {
    const std::size_t at = text.find(before);
    EXPECT_NE(at, std::string::npos) << before;
    return text.substr(0, at) + after + text.substr(std::min(at + before.size(), text.size()));
  };
}

Edit carries(const std::string& name) {
  return [name](Json& j) { j["hf"]["carried"][name] = Json::array({0, kZeros}); };
}

Edit weights_file(const std::string& name) {
  return [name](Json& j) {
    j["hf"]["files"][name] = Json::object();
    for (auto& [tensor, row] : j["hf"]["tensors"].items()) {
      row[2] = row[2] == kFirst ? Json(name) : row[2];
    }
    j["hf"]["files"].erase(kFirst);
    seal(j);
  };
}

Edit size(const std::string& key, const Json& value) {
  return [=](Json& j) { j["layout"][key] = value; };
}

Edit tensor(const std::string& name, const std::function<void(Json&)>& change) {
  return [=](Json& j) {
    change(j["hf"]["tensors"][name]);
    seal(j);
  };
}

std::vector<Hostile> text_rows() {
  return {
      {"empty", "BV7030", "", {}, [](const std::string&) { return std::string(); }},
      {"null", "BV7030", "", {}, [](const std::string&) { return std::string("null"); }},
      {"a_list", "BV7030", "", {}, [](const std::string&) { return std::string("[]"); }},
      {"cut", "BV7030", "", {}, [](const std::string& t) { return t.substr(0, t.size() / 2); }},
      {"cut_at_the_end",
       "BV7030",
       "",
       {},
       [](const std::string& t) { return t.substr(0, t.size() - 2); }},
      {"more_behind_it", "BV7030", "", {}, [](const std::string& t) { return t + "{}"; }},
      {"a_nul_byte", "BV7030", "", {}, instead("llama", std::string("ll\0ma", 5))},
      {"no_utf8",
       "BV7030",
       "not UTF-8",
       {},
       instead("llama",
               "ll\xff"
               "ma")},
      {"half_a_surrogate", "BV7030", "", {}, instead("llama", "\\ud800")},
      {"a_comment", "BV7030", "", {}, instead("{", "{ // mine\n")},
      {"a_comma_too_many", "BV7030", "", {}, instead("\"cp\": 1", "\"cp\": 1,")},
      {"deep", "BV7030", "", {}, [](const std::string&) { return std::string(200'000, '['); }},
      {"deep_inside",
       "BV7030",
       "",
       {},
       instead("\"settings\": []", "\"settings\": " + std::string(200'000, '['))},
      {"key_twice", "BV7009", "appears twice", {}, instead("\"tp\": 2", "\"tp\": 2, \"tp\": 2")},
      {"key_twice_in_other_spelling",
       "BV7009",
       "appears twice",
       {},
       instead("\"tp\": 2", "\"tp\": 2, \"\\u0074p\": 2")},
      {"shard_twice",
       "BV7009",
       "appears twice",
       {},
       instead("\"files\": {\n    \"pp0", "\"files\": {\n    \"" + kShard + "\": {}, \"pp0")},
      {"a_huge_number", "BV7030", "", {}, instead("\"tp\": 2", "\"tp\": 99999999999999999999999")},
      {"a_fraction", "BV7030", "", {}, instead("\"tp\": 2", "\"tp\": 2.0")},
      {"a_power", "BV7030", "", {}, instead("\"tp\": 2", "\"tp\": 2e0")},
      {"not_a_number", "BV7030", "", {}, instead("\"tp\": 2", "\"tp\": NaN")},
  };
}

std::vector<Hostile> key_rows() {
  return {
      {"an_unknown_key", "BV7030", "did you mean drop_mtp?", [](Json& j) { j["drop_mpt"] = true; }},
      {"an_unknown_key_of_the_layout", "BV7030", "is not a key of layout", size("tpp", 1)},
      {"an_unknown_key_of_hf", "BV7030", "is not a key of hf",
       [](Json& j) { j["hf"]["carry"] = {}; }},
      {"no_schema", "BV7030", "schema", [](Json& j) { j.erase("schema"); }},
      {"the_schema_before", "BV7030", "another schema",
       [](Json& j) { j["schema"] = "bridge-megatron/1"; }},
      {"another_schema", "BV7030", "another schema", [](Json& j) { j["schema"] = "x"; }},
      {"no_layout", "BV7030", "layout", [](Json& j) { j.erase("layout"); }},
      {"no_tp", "BV7030", "tp", [](Json& j) { j["layout"].erase("tp"); }},
      {"no_files", "BV7030", "files", [](Json& j) { j.erase("files"); }},
      {"no_plan_digest", "BV7030", "plan_digest", [](Json& j) { j.erase("plan_digest"); }},
      {"family_is_a_number", "BV7030", "", [](Json& j) { j["family"] = 1; }},
      {"drop_mtp_is_a_word", "BV7030", "true or false", [](Json& j) { j["drop_mtp"] = "no"; }},
      {"layout_is_a_list", "BV7030", "", [](Json& j) { j["layout"] = Json::array(); }},
      {"an_unknown_dtype_policy", "BV7030", "int8", [](Json& j) { j["dtype"] = "int8"; }},
      {"an_unknown_implementation", "BV7030", "none of",
       [](Json& j) { j["spelling"]["transformer_impl"] = "jax"; }},
      {"an_unknown_orientation", "BV7030", "none of",
       [](Json& j) { j["expert_orientation"] = "sideways"; }},
      {"a_setting_of_three", "BV7030", "",
       [](Json& j) {
         j["settings"] = Json::array({Json::array({"a", "b", "c"})});
       }},
      {"a_setting_of_one", "BV7030", "",
       [](Json& j) { j["settings"] = Json::array({Json::array({"a"})}); }},
      {"a_short_fingerprint", "BV7030", "32 hex digits", [](Json& j) { j["plan_digest"] = "0"; }},
      {"a_fingerprint_in_capitals", "BV7030", "32 hex digits",
       [](Json& j) { j["plan_digest"] = std::string(32, 'A'); }},
      {"a_size_without_fingerprint", "BV7030", "",
       [](Json& j) { j["hf"]["carried"]["config.json"] = Json::array({1}); }},
      {"names_out_of_order", "BV7030", "sorted",
       [](Json& j) {
         j["hf"]["left_out"] = Json::array({"b", "a"});
       }},
      {"a_name_left_out_twice", "BV7030", "sorted",
       [](Json& j) {
         j["hf"]["left_out"] = Json::array({"a", "a"});
       }},
      {"a_tensor_that_is_left_out_too", "BV7030", "left out",
       [](Json& j) { j["hf"]["left_out"] = Json::array({"lm_head.weight"}); }},
      {"headers_that_were_edited", "BV7030", "headers_digest",
       [](Json& j) { j["hf"]["tensors"]["lm_head.weight"][0] = "F32"; }},
  };
}

std::vector<Hostile> name_rows() {
  return {
      {"carries_what_climbs", "BV7030", "climbs", carries("../../.bashrc")},
      {"carries_what_climbs_inside", "BV7030", "climbs", carries("sub/../../x")},
      {"carries_an_absolute_path", "BV7030", "absolute", carries("/tmp/x")},
      {"carries_a_backslash", "BV7030", "backslash", carries("..\\x")},
      {"carries_an_empty_name", "BV7030", "empty", carries("")},
      {"carries_a_dot", "BV7030", "stands still", carries(".")},
      {"carries_a_name_with_a_gap", "BV7030", "empty component", carries("sub//x")},
      {"carries_a_folder", "BV7030", "empty component", carries("sub/")},
      {"carries_a_nul", "BV7030", "NUL", carries(std::string("a\0b", 3))},
      {"carries_a_long_name", "BV7030", "longer", carries(std::string(256, 'a'))},
      {"carries_a_long_path", "BV7030", "longer", carries(std::string(5000, 'a'))},
      {"carries_weights", "BV7030", "weights", carries("model.safetensors")},
      {"carries_an_output", "BV7030", "weights", carries(kFirst)},
      {"carries_the_manifest", "BV7030", "Megatron folder", carries("manifest.json")},
      {"carries_an_unfinished_file", "BV7030", "unfinished", carries(".bv-partial-1-0")},
      {"carries_the_marker_of_a_run", "BV7030", "unfinished", carries(".bv-run")},
      {"carries_a_file_that_is_a_folder_too", "BV7030", "cannot both", carries("sub")},
      {"carries_no_config", "BV7030", "config.json",
       [](Json& j) { j["hf"]["carried"].erase("config.json"); }},
      {"weights_that_climb", "BV7030", "climbs", weights_file("../" + kFirst)},
      {"weights_at_an_absolute_path", "BV7030", "absolute", weights_file("/tmp/" + kFirst)},
      {"weights_named_otherwise", "BV7030", ".safetensors", weights_file("model.bin")},
      {"weights_in_place_of_a_folder", "BV7030", "cannot both",
       [](Json& j) {
         weights_file("a.safetensors")(j);
         carries("a.safetensors/x.json")(j);
       }},
      {"a_tensor_in_no_file", "BV7030", "does not list",
       tensor("lm_head.weight", [](Json& row) { row[2] = "other.safetensors"; })},
      {"a_shard_of_another_name", "BV7030", "shard file",
       [](Json& j) { j["files"]["x.safetensors"] = Json::object(); }},
      {"a_shard_that_climbs", "BV7030", "shard file",
       [](Json& j) { j["files"]["../" + kShard] = Json::object(); }},
  };
}

std::vector<Hostile> number_rows() {
  const std::int64_t huge = std::int64_t{1} << 62;
  return {
      {"tp_0", "BV7030", "from 1", size("tp", 0)},
      {"tp_below_0", "BV7030", "", size("tp", -2)},
      {"tp_huge", "BV7030", "from 1", size("tp", huge)},
      {"pp_0", "BV7030", "from 1", size("pp", 0)},
      {"ep_0", "BV7030", "from 1", size("ep", 0)},
      {"etp_0", "BV7030", "from 1", size("etp", 0)},
      {"vpp_0", "BV7030", "from 1", size("vpp", 0)},
      {"cp_0", "BV7030", "from 1", size("cp", 0)},
      {"vocabulary_divisor_0", "BV7030", "from 1", size("make_vocab_size_divisible_by", 0)},
      {"vocabulary_divisor_huge", "BV7030", "from 1", size("make_vocab_size_divisible_by", huge)},
      {"first_stage_0", "BV7030", "from 1", size("num_layers_in_first_pipeline_stage", 0)},
      {"tp_in_quotes", "BV7030", "", size("tp", "2")},
      {"an_extent_below_0", "BV7030", "",
       [](Json& j) {
         j["hf"]["tensors"]["lm_head.weight"][1] = Json::array({-15, -8});
       }},
      {"extents_that_overflow", "BV7030", "63 bits",
       [=](Json& j) {
         j["hf"]["tensors"]["lm_head.weight"][1] = Json::array({huge, huge});
       }},
      {"extents_that_overflow_in_bits", "BV7030", "63 bits",
       [](Json& j) {
         j["hf"]["tensors"]["lm_head.weight"][1] = Json::array({std::int64_t{1} << 60});
       }},
      {"65_dimensions", "BV7030", "64 dimensions",
       [](Json& j) { j["hf"]["tensors"]["lm_head.weight"][1] = std::vector<int>(65, 1); }},
      {"an_unknown_element_type", "BV7030", "element type",
       [](Json& j) { j["hf"]["tensors"]["lm_head.weight"][0] = "F13"; }},
      {"a_row_of_four", "BV7030", "",
       [](Json& j) { j["hf"]["tensors"]["lm_head.weight"].push_back(1); }},
      {"a_row_of_two", "BV7030", "",
       [](Json& j) { j["hf"]["tensors"]["lm_head.weight"].erase(2); }},
  };
}

/// Right by themselves, and not what config and rules make of them.
std::vector<Hostile> fit_rows() {
  return {
      {"a_family_that_nobody_knows", "BV7010", "", [](Json& j) { j["family"] = "../llama"; }},
      {"the_family_of_another_model", "BV7031", "", [](Json& j) { j["family"] = "deepseek_v3"; }},
      {"more_ranks_than_files", "BV7031", "at least 4", size("tp", 4)},
      {"millions_of_ranks", "BV7031", "at least", size("tp", parallel::kMaxSize)},
      {"ranks_of_a_product_that_overflows", "BV7031", "",
       [](Json& j) {
         for (const char* key : {"tp", "pp", "ep", "etp", "vpp"}) {
           j["layout"][key] = parallel::kMaxSize;
         }
       }},
      {"fewer_ranks_than_files", "BV7031", "", size("tp", 1)},
      {"a_vocabulary_padded_otherwise", "BV7031", "rows elsewhere",
       size("make_vocab_size_divisible_by", 64)},
      {"stages_that_do_not_add_up", "BV2002", "", size("num_layers_in_first_pipeline_stage", 9)},
      {"a_pipeline_layout_of_nonsense", "BV7031", "",
       size("pipeline_model_parallel_layout", "(((")},
      {"a_plan_of_other_rules", "BV7031", "rows elsewhere",
       [](Json& j) { j["plan_digest"] = kZeros; }},
      {"rules_that_are_not_there", "BV7031", "rules of another bridge",
       [](Json& j) {
         j["rules"] = Json::array({0, kZeros});
       }},
      {"a_tensor_less", "BV7031", "do not fit",
       [](Json& j) {
         j["hf"]["tensors"].erase("model.norm.weight");
         seal(j);
       }},
      {"a_tensor_more", "BV7031", "",
       [](Json& j) {
         j["hf"]["tensors"]["model.layers.0.mystery"] =
             Json::array({"F32", Json::array({8}), kFirst});
         seal(j);
       }},
      {"a_shape_of_another_model", "BV7031", "the shape [16, 8]",
       tensor("lm_head.weight",
              [](Json& row) {
                row[1] = Json::array({16, 8});
              })},
      {"a_shape_turned_around", "BV7031", "the shape [12, 8]",
       tensor("model.layers.0.mlp.down_proj.weight",
              [](Json& row) {
                row[1] = Json::array({12, 8});
              })},
      {"a_type_that_cannot_be_computed_with", "BV7008", "k_proj",
       tensor("model.layers.0.self_attn.k_proj.weight", [](Json& row) { row[0] = "I16"; })},
      {"a_type_of_half_bytes", "BV7008", "lm_head.weight",
       tensor("lm_head.weight", [](Json& row) { row[0] = "F4"; })},
      {"a_shard_less", "BV7031", "",
       [](Json& j) {
         j["files"].erase(kOtherShard);
         j["files"]["pp1_tp0_ep0_etp0.safetensors"] = Json::object();
       }},
      {"a_shard_more", "BV7031", "not a shard file of its layout",
       [](Json& j) { j["files"]["pp0_tp2_ep0_etp0.safetensors"] = Json::object(); }},
      {"a_shard_tensor_less", "BV7031", "no fingerprint of",
       [](Json& j) { j["files"][kShard].erase("decoder.final_layernorm.weight"); }},
      {"a_shard_tensor_more", "BV7031", "tensors in",
       [](Json& j) { j["files"][kShard]["decoder.mystery"] = kZeros; }},
      {"experts_that_are_none", "BV7031", "", size("ep", 2)},
      {"another_implementation", "BV7031", "",
       [](Json& j) { j["spelling"]["transformer_impl"] = "local"; }},
  };
}

std::vector<Hostile> hostile() {
  std::vector<Hostile> out;
  for (auto rows : {text_rows(), key_rows(), name_rows(), number_rows(), fit_rows()}) {
    std::move(rows.begin(), rows.end(), std::back_inserter(out));
  }
  return out;
}

class HostileManifest : public ::testing::TestWithParam<Hostile> {};

TEST_P(HostileManifest, IsInputThatIsRefused) {
  const Hostile& one = GetParam();
  std::string text = right_text();
  if (one.spoil) {
    text = one.spoil(text);
  } else {
    Json json = Json::parse(text);
    one.edit(json);
    text = json.dump(2);
  }
  ASSERT_NE(text, right_text());
  const auto read = read_manifest(text);
  ASSERT_FALSE(read);
  const Error& error = read.error();
  EXPECT_EQ(label(error.code), one.code) << error.message;
  EXPECT_THAT(error.message + "\n" + error.help, ::testing::HasSubstr(one.says));
  EXPECT_FALSE(error.where.empty()) << error.message;
  EXPECT_FALSE(error.help.empty()) << error.message;
  EXPECT_GE(static_cast<int>(error.code), 1000) << "the command line is not at fault";
  EXPECT_LT(error.message.size(), 600U);
}

INSTANTIATE_TEST_SUITE_P(Rows, HostileManifest, ::testing::ValuesIn(hostile()),
                         [](const auto& row) { return row.param.name; });

TEST(HostileManifests, AreMany) {
  EXPECT_GE(hostile().size(), 60U);
}

TEST(Manifest, IsReadAsItWasWritten) {
  const std::string text = right_text();
  const auto read = read_manifest(text);
  ASSERT_TRUE(read) << read.error().message;
  EXPECT_EQ(manifest_text(*read), text);
  EXPECT_TRUE(read->same_plan);
  EXPECT_TRUE(read->changed.empty());
}

TEST(Manifest, KeepsWhatTheOptionsDecided) {
  MegatronFolder folder = small_folder();
  folder.resolve.drop_mtp = true;
  folder.resolve.spelling.grouped_experts = false;
  folder.settings = {{"rms_norm_eps", "1e-5"}, {"text.\"x\"", "\n"}};
  folder.rules = io::print_of_text("rules");
  folder.layout.pipeline_layout = "Et*2|L";
  folder.layout.account_for_loss = true;
  const std::string text = manifest_text(folder);
  const auto read = parse_manifest(text, "manifest.json");
  ASSERT_TRUE(read) << read.error().message;
  EXPECT_EQ(manifest_text(*read), text);
  EXPECT_EQ(read->settings, folder.settings);
}

/// Every position of a cut, and every single byte changed: an answer, and never another reading of
/// the same text.
TEST(Manifest, IsReadOrRefusedWhateverByteChanges) {
  const std::string text = right_text();
  for (std::size_t at = 0; at < text.size(); at += 7) {
    EXPECT_FALSE(parse_manifest(text.substr(0, at), "m")) << at;
    std::string changed = text;
    changed[at] = static_cast<char>(changed[at] ^ 1);
    const auto read = parse_manifest(changed, "m");
    EXPECT_TRUE(read || !read.error().message.empty());
  }
}

}  // namespace
}  // namespace bv::checkpoint
