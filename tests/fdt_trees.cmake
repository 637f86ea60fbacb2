# SPDX-License-Identifier: MIT
# Device trees for the tests: those of tests/data/fdt are compiled with dtc,
# those of real machines are dumped by QEMU when the tests run.  What is missing
# leaves a test that says so, and is counted as skipped.
find_program(DTC dtc)

set(FDT_DIRECTORY ${CMAKE_CURRENT_BINARY_DIR}/fdt)
file(MAKE_DIRECTORY ${FDT_DIRECTORY})
set(FDT_TREES)
set(FDT_TREE_LIST)
if(DTC)
    file(GLOB sources CONFIGURE_DEPENDS ${CMAKE_CURRENT_SOURCE_DIR}/data/fdt/*.dts)
    foreach(source ${sources})
        cmake_path(GET source STEM name)
        set(tree ${FDT_DIRECTORY}/${name}.dtb)
        set(version 17)
        if(name STREQUAL "version16")
            set(version 16)
        endif()
        # -f and -qq: some are wrong on purpose.
        add_custom_command(OUTPUT ${tree} DEPENDS ${source} VERBATIM
            COMMAND ${DTC} -f -qq -I dts -O dtb -V ${version} -o ${tree} ${source})
        list(APPEND FDT_TREES ${tree})
        string(APPEND FDT_TREE_LIST "\"${tree}\",")
    endforeach()
endif()
add_custom_target(fdt_trees DEPENDS ${FDT_TREES})

# libfdt, and a second implementation on it of what it does not do.
file(GLOB oracle_sources CONFIGURE_DEPENDS ${CMAKE_CURRENT_SOURCE_DIR}/oracle/*.c)
add_library(fdt_oracle STATIC ${oracle_sources})
target_include_directories(fdt_oracle PUBLIC ${CMAKE_CURRENT_SOURCE_DIR})
target_compile_definitions(fdt_oracle PRIVATE "FDT_TREES=${FDT_TREE_LIST}")
target_link_libraries(fdt_oracle PUBLIC skio fdt PRIVATE skio_flags)
add_dependencies(fdt_oracle fdt_trees)

# fdt_machine(name program option...): the tests on one machine's tree, dumped
# by QEMU.  FDT_TREE_TESTS are the programs that take trees as arguments.
function(fdt_machine name program)
    string(MAKE_C_IDENTIFIER ${program} variable)
    find_program(${variable} ${program})
    set(tree ${FDT_DIRECTORY}/qemu_${name}.dtb)
    list(TRANSFORM ARGN REPLACE DUMP dumpdtb=${tree})
    if(${variable})
        add_test(NAME fdt_dump_${name}
            COMMAND ${${variable}} -display none -nic none ${ARGN})
        set_tests_properties(fdt_dump_${name} PROPERTIES
            FIXTURES_SETUP fdt_dump_${name} TIMEOUT 600)
    endif()
    foreach(test ${FDT_TREE_TESTS})
        if(${variable})
            add_test(NAME ${test}_${name} COMMAND ${test} ${tree})
            set_tests_properties(${test}_${name} PROPERTIES
                FIXTURES_REQUIRED fdt_dump_${name} SKIP_RETURN_CODE 77 TIMEOUT 1200)
        else()
            add_test(NAME ${test}_${name}
                COMMAND ${CMAKE_COMMAND} -E echo "skipped: needs ${program}")
            set_tests_properties(${test}_${name} PROPERTIES
                SKIP_REGULAR_EXPRESSION "skipped: needs")
        endif()
    endforeach()
endfunction()

# Called when the programs exist.
function(fdt_machines)
    set(FDT_TREE_TESTS test_fdt_oracle test_fdt_mutation test_platform_bus)
    fdt_machine(riscv64 qemu-system-riscv64 -M virt,DUMP)
    fdt_machine(aarch64 qemu-system-aarch64 -M virt,DUMP -cpu cortex-a57)
    set(FDT_TREE_TESTS test_fdt_oracle test_platform_bus)
    fdt_machine(riscv64_large qemu-system-riscv64 -M virt,aclint=on,DUMP -smp 4 -m 3G)
    fdt_machine(aarch64_smmu qemu-system-aarch64
        -M virt,iommu=smmuv3,gic-version=3,DUMP -cpu cortex-a57 -smp 2)
    fdt_machine(arm qemu-system-arm -M virt,DUMP)
endfunction()
