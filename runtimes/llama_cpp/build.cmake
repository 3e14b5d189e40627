# How `make setup` compiles llama.cpp; CMake reads this file first (CMAKE_PROJECT_llama_cpp_INCLUDE).
# The package also builds llama.cpp's library of options, chat templates and downloads: two fifths of
# the work, and nothing here loads it.
set(LLAMA_BUILD_COMMON OFF)
# Files of a target are compiled together, so that their headers are read once. Two refuse it.
cmake_language(DEFER CALL set_target_properties llama mtmd PROPERTIES UNITY_BUILD ON)
cmake_language(DEFER CALL set_source_files_properties
  vendor/llama.cpp/tools/mtmd/mtmd-helper.cpp vendor/llama.cpp/tools/mtmd/mtmd-helper-gen.cpp
  TARGET_DIRECTORY mtmd PROPERTIES SKIP_UNITY_BUILD_INCLUSION ON)
