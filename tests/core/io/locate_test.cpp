#include "core/io/locate.hpp"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/stat.h>

#include "tests/core/io/scratch.hpp"

namespace bv::io {
namespace {

namespace fs = std::filesystem;
using ::testing::HasSubstr;
using testing::outcome;
using testing::ScratchFolder;
using testing::shown;

LocateRoots roots_of(const ScratchFolder& folder) {
  return {folder.path() / "hub", folder.path()};
}

TEST(Locate, FindsAnHfFolderAndTheFormOfItsWeights) {
  const ScratchFolder folder;
  folder.write("m/config.json", "{}");
  const auto weights = [&] { return classify_path(folder.path() / "m")->weights; };
  EXPECT_EQ(weights(), WeightsForm::None);
  folder.write("m/x.safetensors", "");
  EXPECT_EQ(weights(), WeightsForm::Listing);
  folder.write("m/model.safetensors", "");
  EXPECT_EQ(weights(), WeightsForm::OneFile);
  folder.write("m/model.safetensors.index.json", "");
  EXPECT_EQ(weights(), WeightsForm::Index);
  const auto model = locate_model("m", roots_of(folder));
  ASSERT_TRUE(model);
  EXPECT_EQ(model->kind, ModelKind::HfFolder);
  EXPECT_EQ(model->folder, folder.path() / "m");
  EXPECT_TRUE(require_hf(*model));
}

TEST(Locate, FindsFilesByTheirNames) {
  const ScratchFolder folder;
  const std::vector<std::pair<std::string, ModelKind>> files = {
      {"config.json", ModelKind::ConfigFile},
      {"x.safetensors", ModelKind::SafetensorsFile},
      {"model.safetensors.index.json", ModelKind::IndexFile},
      {"m.headers.json", ModelKind::HeadersDump},
      {"m.headers.json.gz", ModelKind::HeadersDump}};
  for (const auto& [name, kind] : files) {
    folder.write(name, "");
    const auto model = locate_model(name, roots_of(folder));
    ASSERT_TRUE(model) << name;
    EXPECT_EQ(model->kind, kind) << name;
    EXPECT_EQ(model->folder, folder.path());
  }
}

TEST(Locate, TellsADumpOfAnotherNameByItsSchema) {
  const ScratchFolder folder;
  folder.write("dump.json", R"({"schema":"bridge-headers/1","config":{},"tensors":{}})");
  folder.write("other.json", R"({"schema":"other"})");
  EXPECT_EQ(classify_path(folder.path() / "dump.json")->kind, ModelKind::HeadersDump);
  EXPECT_EQ(outcome(classify_path(folder.path() / "other.json")), "BV7001");
}

TEST(Locate, NamesATorchDistCheckpoint) {
  const ScratchFolder folder;
  for (int i = 0; i < 16; ++i) {
    folder.write("ckpt/__" + std::to_string(i) + "_0.distcp", "");
  }
  const auto model = locate_model("ckpt", roots_of(folder));
  ASSERT_TRUE(model);
  EXPECT_EQ(model->kind, ModelKind::TorchDist);
  const auto hf = require_hf(*model);
  ASSERT_EQ(outcome(hf), "BV7003");
  EXPECT_THAT(hf.error().message, HasSubstr("ckpt has no config.json"));
  EXPECT_THAT(
      hf.error().facts,
      ::testing::ElementsAre("it holds 16 *.distcp files: a Megatron torch_dist checkpoint"));
  EXPECT_EQ(hf.error().help,
            "judge it against its HF model: check --model HF_DIR --megatron CKPT_DIR");
}

/// An interrupted save leaves a later folder behind.
TEST(Locate, TheIterationThatCountsIsTheOneThatTheCheckpointNames) {
  const ScratchFolder folder;
  folder.write("ckpt/iter_0000010/__0_0.distcp", "");
  folder.write("ckpt/iter_0000020/__0_0.distcp", "");
  folder.write("ckpt/latest_checkpointed_iteration.txt", "10\n");
  const auto model = classify_path(folder.path() / "ckpt");
  ASSERT_TRUE(model.has_value());
  EXPECT_EQ(model->path, folder.path() / "ckpt/iter_0000010");
  EXPECT_THAT(model->notes,
              ::testing::ElementsAre("iter_0000010 is taken: latest_checkpointed_iteration.txt "
                                     "names it; not looked at: iter_0000020"));
}

/// A config.json beside the iterations does not hide them from who asks for the checkpoint.
TEST(Locate, ACheckpointBesideAConfigIsFoundByWhoAsksForOne) {
  const ScratchFolder folder;
  folder.write("ckpt/iter_0000010/mp_rank_00/model_optim_rng.pt", "");
  folder.write("ckpt/config.json", "{}");
  EXPECT_EQ(classify_path(folder.path() / "ckpt")->kind, ModelKind::HfFolder);
  const auto below = megatron_below(folder.path() / "ckpt");
  ASSERT_TRUE(below.has_value() && below->has_value());
  EXPECT_EQ((*below)->kind, ModelKind::RankFiles);
  folder.write("hf/config.json", "{}");
  EXPECT_FALSE(megatron_below(folder.path() / "hf")->has_value());
}

/// Another iteration that is there would be other weights: it is never taken instead.
TEST(Locate, AnIterationThatIsNamedAndNotThereIsSaid) {
  const ScratchFolder folder;
  folder.write("ckpt/iter_0000009/mp_rank_00/model_optim_rng.pt", "");
  folder.write("ckpt/iter_0000020/__0_0.distcp", "");
  folder.write("ckpt/iter_0000030/common.pt", "");
  for (const auto& [text, message] :
       {std::pair("10", "names iter_0000010, which holds no checkpoint"),
        std::pair("30", "names iter_0000030, which holds no checkpoint"),
        std::pair("release", "names release, which holds no checkpoint"),
        std::pair("../x", "names no iteration"), std::pair("", "names no iteration"),
        std::pair("-1", "names no iteration"), std::pair("10 20", "names no iteration")}) {
    folder.write("ckpt/latest_checkpointed_iteration.txt", text);
    const auto model = classify_path(folder.path() / "ckpt");
    ASSERT_EQ(outcome(model), "BV7002") << text;
    EXPECT_THAT(model.error().message, HasSubstr(message));
    EXPECT_EQ(model.error().found, "iter_0000009, iter_0000020");
    EXPECT_THAT(model.error().help, HasSubstr("ckpt/iter_0000020"));
  }
  folder.write("none/latest_checkpointed_iteration.txt", "7");
  const auto none = classify_path(folder.path() / "none");
  ASSERT_EQ(outcome(none), "BV7002");
  EXPECT_EQ(none.error().found, "no iteration that holds one");
}

TEST(Locate, FilesOfRanksWithoutAManifestAreACheckpointOfRanks) {
  const ScratchFolder folder;
  folder.write("a/iter_0000005/mp_rank_00/model_optim_rng.pt", "");
  folder.write("a/latest_checkpointed_iteration.txt", "5");
  folder.write("b/pp0_tp0_ep0_etp0.safetensors", "");
  folder.write("b/pp0_tp1_ep0_etp0.safetensors", "");
  for (const auto& [name, files] : {std::pair("a", 1U), std::pair("b", 2U)}) {
    const auto model = locate_model(name, roots_of(folder));
    ASSERT_TRUE(model) << shown(model.error());
    EXPECT_EQ(model->kind, ModelKind::RankFiles);
    EXPECT_EQ(model->rank_files, files);
    EXPECT_EQ(outcome(require_hf(*model)), "BV7003");
    EXPECT_THAT(shown(require_hf(*model).error()), HasSubstr("--megatron"));
  }
}

TEST(Locate, FindsTheLastIterationOfATorchDistRoot) {
  const ScratchFolder folder;
  folder.write("ckpt/iter_0000010/__0_0.distcp", "");
  folder.write("ckpt/iter_0000020/__0_0.distcp", "");
  folder.write("ckpt/iter_0000030/common.pt", "");
  const auto model = locate_model("ckpt", roots_of(folder));
  ASSERT_TRUE(model);
  EXPECT_EQ(model->kind, ModelKind::TorchDist);
  EXPECT_EQ(model->path, folder.path() / "ckpt" / "iter_0000020");
  EXPECT_THAT(model->notes, ::testing::ElementsAre(HasSubstr("the last of 2 iterations")));
}

TEST(Locate, FindsAMegatronFolderOfOurs) {
  const ScratchFolder folder;
  folder.write("out/manifest.json", "{}");
  folder.write("out/hf/config.json", "{}");
  const auto model = locate_model("out", roots_of(folder));
  ASSERT_TRUE(model);
  EXPECT_EQ(model->kind, ModelKind::MegatronFolder);
  EXPECT_EQ(outcome(require_hf(*model)), "BV7003");
}

TEST(Locate, WeightsOfTorchAreFoundWhereTransformersLooks) {
  const ScratchFolder folder;
  folder.write("m/config.json", "{}");
  folder.write("m/pytorch_model.bin", "");
  folder.write("n/config.json", "{}");
  folder.write("n/pytorch_model-00001-of-00002.bin", "");
  folder.write("i/config.json", "{}");
  folder.write("i/pytorch_model.bin.index.json", "");
  const auto form = [&](const char* name) { return locate_model(name, roots_of(folder))->weights; };
  EXPECT_EQ(form("m"), WeightsForm::OneFile);
  EXPECT_EQ(form("n"), WeightsForm::Listing);
  EXPECT_EQ(form("i"), WeightsForm::Index);
  EXPECT_EQ(outcome(locate_model("m/pytorch_model.bin", roots_of(folder))), "accepted");
  folder.write("m/model.safetensors", "");
  EXPECT_EQ(form("m"), WeightsForm::OneFile);
}

TEST(Locate, PicklesUnderOtherNamesAreRefused) {
  const ScratchFolder folder;
  folder.write("m/config.json", "{}");
  folder.write("m/consolidated.00.pth", "");
  EXPECT_EQ(outcome(locate_model("m", roots_of(folder))), "BV7013");
}

TEST(Locate, TrainingFilesAreNoWeights) {
  const ScratchFolder folder;
  folder.write("m/config.json", "{}");
  folder.write("m/training_args.bin", "");
  EXPECT_EQ(outcome(locate_model("m", roots_of(folder))), "accepted");
}

TEST(Locate, FolderWithoutConfigSaysWhatItHolds) {
  const ScratchFolder folder;
  folder.write("m/model.safetensors", "");
  folder.write("a/adapter_config.json", "");
  folder.write("p/inner/config.json", "{}");
  const auto weights = locate_model("m", roots_of(folder));
  ASSERT_EQ(outcome(weights), "BV7003");
  EXPECT_THAT(shown(weights.error()), HasSubstr("it holds 1 file named *.safetensors"));
  EXPECT_THAT(shown(locate_model("a", roots_of(folder)).error()),
              HasSubstr("give it with --adapter"));
  EXPECT_THAT(shown(locate_model("p", roots_of(folder)).error()),
              HasSubstr("its folder \"inner\" has one"));
}

TEST(Locate, NameIsLookedUpInTheCacheAfterThePaths) {
  const ScratchFolder folder;
  const std::string commit(40, 'c');
  folder.write("hub/models--Org--Name/snapshots/" + commit + "/config.json", "{}");
  folder.write("hub/models--Org--Name/snapshots/" + commit + "/model.safetensors", "");
  folder.write("hub/models--Org--Name/refs/main", commit);
  const auto cached = locate_model("Org/Name", roots_of(folder));
  ASSERT_TRUE(cached) << shown(cached.error());
  EXPECT_EQ(cached->how, "HF cache, Org/Name at " + commit);
  EXPECT_EQ(cached->weights, WeightsForm::OneFile);
  folder.write("Org/Name/config.json", "{}");
  EXPECT_EQ(locate_model("Org/Name", roots_of(folder))->how, "a folder with config.json");
}

TEST(Locate, NameThatIsNowhereListsBothPlaces) {
  const ScratchFolder folder;
  fs::create_directories(folder.path() / "hub/models--Org--Nane");
  const auto model = locate_model("Org/Name", roots_of(folder));
  ASSERT_EQ(outcome(model), "BV7001");
  EXPECT_THAT(shown(model.error()), HasSubstr("models--Org--Name"));
  EXPECT_THAT(shown(model.error()), HasSubstr("cached and similar: Org/Nane"));
  EXPECT_THAT(shown(model.error()),
              HasSubstr("there is no such path either: " + (folder.path() / "Org/Name").string()));
}

TEST(Locate, HostileReferencesAreRefused) {
  const ScratchFolder folder;
  ASSERT_EQ(::mkfifo((folder.path() / "pipe").c_str(), 0600), 0);
  EXPECT_EQ(outcome(locate_model("pipe", roots_of(folder))), "BV8007");
  fs::create_symlink("loop", folder.path() / "loop");
  EXPECT_EQ(outcome(locate_model("loop", roots_of(folder))), "BV8007");
  for (const std::string& reference : {std::string(), std::string("a\0b", 3), std::string("a\nb"),
                                       std::string("../../../../none"), std::string(10'000, 'x')}) {
    const auto model = locate_model(reference, roots_of(folder));
    ASSERT_EQ(outcome(model), "BV7001") << reference.substr(0, 20);
    EXPECT_EQ(model.error().message.find('\n'), std::string::npos);
  }
}

}  // namespace
}  // namespace bv::io
