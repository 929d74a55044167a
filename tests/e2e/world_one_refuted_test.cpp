// One process of a world whose files are other ones, or change for it, and say something else than
// those of the others: it is named, all end with one exit code, and nothing is written.

#include <fmt/format.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <functional>
#include <regex>

#include "tests/e2e/large_adapter.hpp"
#include "tests/e2e/world.hpp"

namespace bv::e2e {
namespace {

namespace fs = std::filesystem;
using ::testing::ContainsRegex;
using ::testing::HasSubstr;
using ::testing::Not;

/// All say nothing but rank 0, end alike and leave nothing but `inputs` behind.
void expect_nothing_written(const std::vector<Ended>& ends, int code, const TempFolder& temp,
                            const std::set<std::string>& inputs) {
  for (std::size_t rank = 0; rank < ends.size(); ++rank) {
    EXPECT_EQ(ends[rank].code, code) << rank << ends[rank].all();
  }
  EXPECT_THAT(ends[0].all(), Not(HasSubstr("PASS")));
  std::set<std::string> left;
  for (const auto& entry : fs::directory_iterator(temp.path())) {
    left.insert(entry.path().filename().string());
  }
  EXPECT_EQ(left, inputs);
}

/// A model whose tied output layer is stored twice: a claim holds the two against each other.
EditedCheckpoint tied_model() {
  EditedCheckpoint out = EditedCheckpoint::golden("llama");
  out.config["tie_word_embeddings"] = true;
  out.tensors["lm_head.weight"] = out.tensors.at("model.embed_tokens.weight");
  return out;
}

TEST(WorldOneRefuted, AClaimThatOneCopyRefutesStopsTheConversionOfAll) {
  const TempFolder temp;
  EditedCheckpoint model = tied_model();
  model.write(temp.path() / "right");
  model.tensors.at("lm_head.weight").bytes[5] ^= std::byte{1};
  model.write(temp.path() / "wrong");
  const auto line = [&](const std::string& of) {
    return Words{"convert", "--to", "megatron", "--model",   temp / of,
                 "--tp",    "2",    "--out",    temp / "out"};
  };
  const Ended alone = run(line("wrong"));
  EXPECT_EQ(alone.code, 1) << alone.all();
  EXPECT_THAT(alone.flat(), HasSubstr("lm_head.weight"));
  for (const int odd : {0, 1, 2}) {
    const auto ends = run_world(3, line("right"), {{odd, {.arguments = line("wrong")}}});
    expect_nothing_written(ends, 1, temp, {"right", "wrong"});
    EXPECT_THAT(ends[0].flat(), HasSubstr(fmt::format("rank {}: ", odd)));
    EXPECT_THAT(ends[0].flat(), HasSubstr("lm_head.weight"));
    EXPECT_THAT(ends[0].flat(), HasSubstr("nothing was written: a claim above does not hold"));
    for (const int other : {0, 1, 2}) {
      if (other != odd) {
        EXPECT_THAT(ends[0].flat(), Not(HasSubstr(fmt::format("rank {}", other)))) << odd;
      }
    }
    EXPECT_EQ(ends[1].all() + ends[2].all(), "");
  }
}

using Edit = std::function<void(EditedCheckpoint& adapter)>;

/// A copy of an adapter of PEFT with something else in it.
void write_edited(const std::string& from, const fs::path& to, const Edit& edit) {
  fs::create_directories(to);
  EditedCheckpoint adapter;
  adapter.config = nlohmann::ordered_json::parse(file_text(fs::path(from) / "adapter_config.json"));
  adapter.tensors = read_tensors(fs::path(from) / "adapter_model.safetensors");
  edit(adapter);
  adapter.write(to);
  fs::rename(to / "config.json", to / "adapter_config.json");
  fs::rename(to / "model.safetensors", to / "adapter_model.safetensors");
}

struct OtherAdapter {
  const char* what = "";
  Edit edit;
  bool is_whole = true;  // it can be written by a process that is alone
};

const std::vector<OtherAdapter>& other_adapters() {
  static const std::vector<OtherAdapter> all = {
      {"another value", [](auto& one) { one.tensors.begin()->second.bytes[0] ^= std::byte{1}; }},
      {"another scale", [](auto& one) { one.config["lora_alpha"] = 7; }},
      {"a factor is missing",
       [](auto& one) {
         std::erase_if(one.tensors, [done = false](const auto& at) mutable {
           const bool is_it = !done && at.first.find("lora_B") != std::string::npos;
           done = done || is_it;
           return is_it;
         });
       },
       false},
      {"a value is not finite",
       [](auto& one) {
         EditedTensor& tensor = one.tensors.begin()->second;
         std::fill(tensor.bytes.begin(), tensor.bytes.begin() + 4, std::byte{0xff});
       },
       false},
      {"a layer that the base has not",
       [](auto& one) {
         auto node = one.tensors.extract(one.tensors.begin());
         node.key() = std::regex_replace(node.key(), std::regex("layers\\.0\\."), "layers.77.");
         one.tensors.insert(std::move(node));
       },
       false}};
  return all;
}

TEST(WorldOneRefuted, AnAdapterThatIsAnotherOneOnOneRankIsNeverWritten) {
  const std::string base = fixture("golden/peft/llama_all/base");
  const std::string right = fixture("golden/peft/llama_all/adapter");
  for (const OtherAdapter& other : other_adapters()) {
    const TempFolder temp;
    write_edited(right, temp.path() / "other", other.edit);
    for (const Words& way : {Words{"lora", "convert", "--to", "megatron", "--tp", "2"},
                             Words{"lora", "merge"}, Words{"convert", "--to", "megatron"}}) {
      const auto line = [&](const std::string& adapter) {
        return way + Words{"--model", base, "--adapter", adapter, "--out", temp / "out"};
      };
      const Ended alone = run(line(temp / "other"));
      EXPECT_EQ(alone.code == 0, other.is_whole) << other.what << alone.all();
      fs::remove_all(temp.path() / "out");
      for (const int odd : {0, 1, 2}) {
        SCOPED_TRACE(fmt::format("{}: {} {}, rank {}", other.what, way[0], way[1], odd));
        const auto ends = run_world(3, line(right), {{odd, {.arguments = line(temp / "other")}}});
        expect_nothing_written(ends, ends[0].code, temp, {"other"});
        EXPECT_NE(ends[0].code, 0);
        if (odd != 0) {
          EXPECT_THAT(ends[0].flat(), HasSubstr(fmt::format("rank {}", odd)));
        }
        if (other.is_whole) {
          EXPECT_EQ(ends[0].code, 5);
          EXPECT_THAT(ends[0].flat(), ContainsRegex("BV8017.?: rank [0-2]")) << ends[0].all();
        }
      }
    }
  }
}

TEST(WorldOneRefuted, FilesOfRanksThatAreOtherOnesOnOneProcessAreNeverMadeAnAdapterOfPeft) {
  const TempFolder temp;
  const std::string base = fixture("golden/peft/llama_all/base");
  const auto to_ranks = [&](const std::string& adapter, const std::string& out) {
    return Words{"lora",    "convert", "--to",      "megatron", "--tp",  "2",
                 "--model", base,      "--adapter", adapter,    "--out", temp / out};
  };
  const std::string right = fixture("golden/peft/llama_all/adapter");
  ASSERT_EQ(run(to_ranks(right, "ranks")).code, 0);
  for (const std::size_t which : {0U, 1U}) {
    const OtherAdapter& other = other_adapters()[which];
    write_edited(right, temp.path() / "edited", other.edit);
    ASSERT_EQ(run(to_ranks(temp / "edited", "other")).code, 0);
    fs::remove_all(temp.path() / "edited");
    const auto line = [&](const std::string& ranks) {
      return Words{"lora", "convert",   "--to",       "hf",    "--model",
                   base,   "--adapter", temp / ranks, "--out", temp / "out"};
    };
    for (const int odd : {0, 1}) {
      const auto ends = run_world(2, line("ranks"), {{odd, {.arguments = line("other")}}});
      expect_nothing_written(ends, 5, temp, {"ranks", "other"});
      EXPECT_THAT(ends[0].flat(), HasSubstr("rank 1 has another adapter than rank 0"))
          << other.what << odd;
    }
    fs::remove_all(temp.path() / "other");
  }
}

}  // namespace
}  // namespace bv::e2e
